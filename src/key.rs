//! Pure: where a request's key is, and the key found there.

/// Where a request's key is.
#[derive(Clone, Debug)]
pub struct KeySpec;
