//! The Zeta Key Exchange (PROTOCOL 5): what is computed in each step, and which state a session is in.

pub(crate) mod control;
pub(crate) mod keys;
pub(crate) mod kk;
pub(crate) mod state;
pub(crate) mod xk;
