//! Files and folders from one peer to another.

pub(crate) mod message;
pub(crate) mod names;
mod pipe;
pub(crate) mod receiver;
pub(crate) mod refusal;
pub(crate) mod run;
pub(crate) mod sender;
pub(crate) mod sink;
pub(crate) mod source;

#[cfg(test)]
mod tests;
