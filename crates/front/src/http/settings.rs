//! What a listener's HTTP connections have in common.

use std::collections::BTreeMap;

use crate::keys::PoolId;

/// What a listener's HTTP connections have in common.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Whose requests they are.
    pub(crate) pool: PoolId,
    /// Parameters besides the usual ones; they replace those of the same name.
    pub(crate) params: BTreeMap<String, String>,
}

impl Settings {
    /// Of this pool, with its parameters.
    pub(crate) fn new(pool: PoolId, params: &BTreeMap<String, String>) -> Settings {
        Settings { pool, params: params.clone() }
    }
}
