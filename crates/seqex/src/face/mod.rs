//! The faces: one exchange shared by threads and tasks. They wait; every rule is in the core.

mod accepting;
mod bell;
mod block;
mod clock;
mod driver;
mod foreign;
mod guard;
mod handle;
#[cfg(all(test, loom))]
mod loom_models;
mod multiplexer;
mod receiving;
mod request;
mod requests;
mod sending;
mod state;
mod sync;
mod waiters;

pub use accepting::Accepting;
pub use clock::Clock;
pub use driver::{DeadlineMoved, Driver, Ended, Link, Transmits, Transmittable};
pub use guard::Guard;
pub use handle::{Closed, Delivered, Exchange};
pub use multiplexer::{Accepted, Multiplexer, MultiplexerDriver};
pub use receiving::Receiving;
pub use request::{Request, Unanswered, WhyUnanswered};
pub use sending::Sending;
