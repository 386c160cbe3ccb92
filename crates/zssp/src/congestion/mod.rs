//! How much may be under way without choking the road.

mod new_reno;

pub(crate) use new_reno::{NewReno, Usage};
