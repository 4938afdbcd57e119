//! Carries the bodies of shards between hosts: TLS 1.3 with both keys pinned, as on the connections of `src/wire`, but on
//! plain threads and without a body ever passing through JavaScript (docs/protocol.md, "Data connections").
//!
//! What is asked and whether it is granted is TypeScript's business: a question is opaque here, and nothing is received
//! or sent before TypeScript ordered it. Only a fetch is understood here too, and answered at once for the readers whom
//! TypeScript named.

pub mod admission;
pub mod broken;
pub mod client;
pub mod dial;
pub mod endpoint;
pub mod frames;
pub mod identity;
pub mod kept;
pub mod outcome;
pub mod runner;
pub mod server;
pub mod stream;
pub mod threads;
pub mod timeouts;
pub mod turns;
