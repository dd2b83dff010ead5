//! ClickHouse's spellings of expressions that it was asked for once, so that a pass over
//! an unchanged workspace asks for none.

use aviary_plan::catalog::Expression;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of spellings to keep; then the cache starts anew.
const MOST_BYTES: usize = 16 << 20;

/// Shared by the clones of a replica.
#[derive(Clone, Default)]
pub(crate) struct SpellingCache(Arc<Mutex<Cached>>);

#[derive(Default)]
struct Cached {
    /// By the digest of the expression, since its text is as long as the spelling. None
    /// for what ClickHouse cannot parse.
    spellings: BTreeMap<[u8; 32], Option<Box<str>>>,
    bytes: usize,
}

impl SpellingCache {
    /// The expressions that ClickHouse was not asked about yet.
    pub(crate) fn unknown(&self, expressions: &BTreeSet<Expression>) -> Vec<Expression> {
        let cached = self.lock();
        let is_new = |expression: &&Expression| !cached.spellings.contains_key(&digest(expression));
        expressions.iter().filter(is_new).cloned().collect()
    }

    /// The spellings of expressions, as far as there are any.
    pub(crate) fn spellings(
        &self,
        expressions: BTreeSet<Expression>,
    ) -> BTreeMap<Expression, String> {
        let cached = self.lock();
        let spelled = |expression: Expression| {
            let spelling = cached.spellings.get(&digest(&expression))?.as_deref()?;
            let spelling = spelling.to_owned();
            Some((expression, spelling))
        };
        expressions.into_iter().filter_map(spelled).collect()
    }

    /// Keeps what ClickHouse answered.
    pub(crate) fn keep(&self, answers: impl Iterator<Item = (Expression, Option<String>)>) {
        let mut cached = self.lock();
        if cached.bytes > MOST_BYTES {
            *cached = Cached::default();
        }
        for (expression, spelling) in answers {
            cached.bytes += spelling.as_ref().map_or(0, String::len);
            let spelling = spelling.map(String::into_boxed_str);
            cached.spellings.insert(digest(&expression), spelling);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Cached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest(expression: &Expression) -> [u8; 32] {
    Sha256::digest(format!("{expression:?}")).into()
}
