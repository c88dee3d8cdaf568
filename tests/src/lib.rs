//! What the end-to-end tests share: real servers, a writer, and a comparison by ordinary commands.
