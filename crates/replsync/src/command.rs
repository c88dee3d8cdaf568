//! Commands of the replication stream: what each touches and how it is rewritten.
