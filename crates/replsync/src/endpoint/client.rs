//! A connection that asks and waits: for INFO, CONFIG and the like, not for bulk work.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::{Endpoint, Error, Info, Socket};
use crate::resp::{Reply, ReplyDecoder, ReplyError, write_command};

/// Replies are read in pieces of this size.
const READ_BYTES: usize = 16 * 1024;
/// A server that takes no more commands has this long to say why.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A connection, authenticated.
#[derive(Debug)]
pub struct Client {
    server: String,
    socket: Socket,
    limit: Duration,
    input: BytesMut,
    decoder: ReplyDecoder,
    /// Whether the server has said anything.
    heard: bool,
    /// A request was sent and its reply not read: what comes next would be taken for the answer to something else.
    in_flight: bool,
}

impl Client {
    /// Connects and authenticates. `limit` bounds connecting and, from then on, each answer.
    pub async fn connect(endpoint: &Endpoint, limit: Duration) -> Result<Self, Error> {
        let socket = Socket::connect(endpoint, limit).await?;
        let mut client = Self {
            server: endpoint.to_string(),
            socket,
            limit,
            input: BytesMut::new(),
            decoder: ReplyDecoder::default(),
            heard: false,
            in_flight: false,
        };
        if let Some(credentials) = endpoint.login() {
            let mut request = BytesMut::new();
            credentials.write(&mut request);
            client.exchange_one("AUTH", &request).await.map_err(|error| match error {
                Error::Refused { server, command, reply } => {
                    Error::Refused { server, command, reply: credentials.redact(&reply) }
                }
                error => error,
            })?;
        }
        Ok(client)
    }

    /// The socket, with nothing unread on it, for other use.
    pub fn into_socket(self) -> Socket {
        self.socket
    }

    /// Bounds each answer from now on.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Sends a command and returns its reply; an error reply is an error. After a failure, or when this was dropped
    /// while it waited, the connection is of no more use.
    pub async fn ask<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Reply, Error> {
        let mut request = BytesMut::new();
        write_command(&mut request, args);
        let name: Vec<_> = args.iter().take(2).map(|arg| String::from_utf8_lossy(arg.as_ref())).collect();
        self.exchange_one(&name.join(" "), &request).await
    }

    /// Like [`ask`](Self::ask), where the reply is text.
    pub async fn ask_text<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<String, Error> {
        let reply = self.ask(args).await?;
        reply.text().ok_or_else(|| self.unexpected(args, &reply))
    }

    /// `INFO`, all of its default sections.
    pub async fn info(&mut self) -> Result<Info, Error> {
        let text = self.ask_text(&["INFO"]).await?;
        Info::parse(&text).map_err(|source| Error::Info { server: self.server.clone(), source })
    }

    /// A configuration setting, or `None` where the server does not have it or this user may not read it.
    pub async fn config(&mut self, name: &str) -> Result<Option<String>, Error> {
        match self.ask(&["CONFIG", "GET", name]).await {
            Ok(Reply::Array(pair)) => Ok(pair.get(1).and_then(Reply::text)),
            Ok(_) | Err(Error::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The error for something that took longer than answers may.
    pub fn slow(&self, what: &str) -> Error {
        Error::Timeout { server: self.server.clone(), what: what.to_owned(), after: self.limit }
    }

    /// The error for a reply of another kind than `args` has.
    pub fn unexpected<A: AsRef<[u8]>>(&self, args: &[A], reply: &Reply) -> Error {
        let command = args.first().map(|name| String::from_utf8_lossy(name.as_ref()).into_owned());
        let reply = format!("{reply:?}").chars().take(120).collect();
        Error::Unexpected { server: self.server.clone(), command: command.unwrap_or_default(), reply }
    }

    /// Sends commands at once and returns a reply for each, error replies among them. The limit on answers holds for
    /// all of them together. Keep them few enough that the server need not hold many megabytes of replies.
    pub async fn pipeline(&mut self, what: &str, commands: &Pipelined) -> Result<Vec<Reply>, Error> {
        self.exchange(what, &commands.bytes, commands.count).await
    }

    async fn exchange_one(&mut self, what: &str, request: &[u8]) -> Result<Reply, Error> {
        let mut replies = self.exchange(what, request, 1).await?;
        let reply = replies.pop().unwrap_or(Reply::Nil);
        match reply.error() {
            Some(reply) => {
                Err(Error::Refused { server: self.server.clone(), command: what.to_owned(), reply })
            }
            None => Ok(reply),
        }
    }

    async fn exchange(&mut self, what: &str, request: &[u8], count: usize) -> Result<Vec<Reply>, Error> {
        if std::mem::replace(&mut self.in_flight, true) {
            let (server, what) = (self.server.clone(), what.to_owned());
            let source = io::Error::other("an earlier answer was not waited for");
            return Err(Error::Broken { server, what, source });
        }
        let mut replies = Vec::with_capacity(count);
        match timeout(self.limit, self.converse(request, count, &mut replies)).await {
            Ok(Ok(())) => {}
            Ok(Err(Failed::Io(source))) => return Err(self.broken(what, source)),
            Ok(Err(Failed::Reply(source))) => {
                let (server, what) = (self.server.clone(), what.to_owned());
                return Err(Error::Protocol { server, what, source });
            }
            Err(_) => return Err(self.slow(what)),
        }
        self.in_flight = false;
        Ok(replies)
    }

    /// A server that stops reading until its replies are read must not stop us from reading them.
    async fn converse(
        &mut self,
        request: &[u8],
        count: usize,
        replies: &mut Vec<Reply>,
    ) -> Result<(), Failed> {
        let (mut input, mut output) = tokio::io::split(&mut self.socket);
        let write = async {
            output.write_all(request).await?;
            output.flush().await
        };
        let read = async {
            while replies.len() < count {
                if let Some(reply) = self.decoder.next(&mut self.input).map_err(Failed::Reply)? {
                    replies.push(reply);
                    continue;
                }
                self.input.reserve(READ_BYTES);
                if input.read_buf(&mut self.input).await.map_err(Failed::Io)? == 0 {
                    return Err(Failed::Io(io::ErrorKind::UnexpectedEof.into()));
                }
                self.heard = true;
            }
            Ok(())
        };
        tokio::pin!(read, write);
        tokio::select! {
            biased;
            read = &mut read => {
                read?;
                write.await.map_err(Failed::Io)
            }
            written = &mut write => match written {
                Ok(()) => read.await,
                // A server that closes the connection has often said why, and that says more than a broken pipe.
                Err(broken) => match timeout(LAST_WORDS, read).await {
                    Ok(Err(error)) => Err(error),
                    _ => Err(Failed::Io(broken)),
                },
            },
        }
    }

    fn broken(&self, what: &str, source: io::Error) -> Error {
        let (server, what) = (self.server.clone(), what.to_owned());
        match (&self.socket, self.heard) {
            (Socket::Tcp(_), false) => Error::Mute { server, what, source },
            _ => Error::Broken { server, what, source },
        }
    }
}

/// Why there are no replies.
enum Failed {
    Io(io::Error),
    Reply(ReplyError),
}

/// Commands to be sent at once.
#[derive(Debug, Default)]
pub struct Pipelined {
    bytes: BytesMut,
    count: usize,
}

impl Pipelined {
    /// Adds a command.
    pub fn add<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        write_command(&mut self.bytes, args);
        self.count += 1;
    }

    /// How many bytes they take.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How many commands there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_late_answer_is_never_taken_for_another() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let mut client = Client::connect(&url.parse().unwrap(), Duration::from_millis(50)).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        assert!(matches!(client.ask(&["FIRST"]).await, Err(Error::Timeout { .. })));
        server.write_all(b"+late\r\n").await.unwrap();
        assert!(matches!(client.ask(&["SECOND"]).await, Err(Error::Broken { .. })));
    }
}
