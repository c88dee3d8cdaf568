//! The wire: RESP.
