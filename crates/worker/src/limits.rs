//! What one request may cost before the application sees it.

/// Limits on what the web server sends. How long a body may be is the application's to say, because it reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all parameters together, lengths included. Beyond, the visitor gets 431.
    pub params: usize,
    /// How many parameters. Beyond, the visitor gets 431.
    pub params_count: usize,
}

impl Default for Limits {
    /// 256 KiB, and 1,000 parameters.
    fn default() -> Limits {
        Limits { params: 256 * 1024, params_count: 1000 }
    }
}
