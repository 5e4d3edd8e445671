//! Keys of what the front keeps: an index and a version, so that a late word about something gone reaches nobody.

use slotmap::new_key_type;

new_key_type! {
    /// A FastCGI connection of a web server.
    pub(crate) struct ClientKey;
    /// A connection to a worker; it carries one request at a time.
    pub(crate) struct LaneKey;
    /// A worker.
    pub(crate) struct WorkerKey;
    /// A request.
    pub(crate) struct RequestKey;
}

/// The supervisor's number of a pool.
pub(crate) type PoolId = u32;
