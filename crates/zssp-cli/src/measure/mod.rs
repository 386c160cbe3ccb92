//! Round trips, throughput and message rates.

pub(crate) mod answer;
pub(crate) mod load;
pub(crate) mod round_trips;
pub(crate) mod wire;
