//! Servers by URL: connections, authentication, who answers.
