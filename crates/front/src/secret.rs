//! The secret by which requests are named. Every front of one supervisor has the same, so that what was held against a
//! request outlives the front that saw it; nobody outside knows it, so that no request can be made to share a name.

use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};

use steadfast_proto::front::SECRET_VARIABLE;

/// It, taken in already.
#[derive(Clone, Debug)]
pub(crate) struct Secret(DefaultHasher);

impl Secret {
    /// The supervisor's, or one of our own where it has given none.
    pub(crate) fn of_supervisor() -> Secret {
        match std::env::var(SECRET_VARIABLE) {
            Ok(given) if !given.is_empty() => Secret::new(given.as_bytes()),
            Ok(_) | Err(_) => Secret::new(&RandomState::new().hash_one(0).to_ne_bytes()),
        }
    }

    fn new(bytes: &[u8]) -> Secret {
        let mut hasher = DefaultHasher::new();
        hasher.write(bytes);
        Secret(hasher)
    }
}

impl BuildHasher for Secret {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_secret_gives_the_same_names_and_another_gives_others() {
        let names = |secret: &[u8]| [1, 2].map(|request| Secret::new(secret).hash_one(request));
        assert_eq!(names(b"abc"), names(b"abc"));
        assert_ne!(names(b"abc"), names(b"abd"));
        assert_ne!(names(b"abc")[0], names(b"abc")[1]);
    }
}
