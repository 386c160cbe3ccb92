//! AWS-LC.

/// To come.
#[derive(Debug)]
pub struct AwsLc;
