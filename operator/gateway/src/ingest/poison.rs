//! Rows at which ClickHouse throws while it writes them, such as one whose default divides by zero.
//!
//! It refuses all rows of the INSERT then, and does not say which one it was. So the rows are halved
//! until the guilty ones are alone, and these go to quarantine with what ClickHouse says of them.

use super::block::Block;
use super::deduplication_token::DeduplicationToken;
use super::store::{LandingWrite, Store, StoreError};
use crate::upstream::{Blame, Exception};
use aviary_crds::published::judged;

/// Where so many INSERTs have not found all guilty rows of a block, those that are still among them
/// go to quarantine as well: nothing is lost there, and others wait.
const MOST_INSERTS: usize = 200;

/// Stores the rows of a block that ClickHouse refused for one of them.
pub(super) async fn isolate(
    store: &Store,
    block: Block,
    token: &DeduplicationToken,
    exception: Exception,
) -> Result<Vec<LandingWrite>, StoreError> {
    let mut landed = Vec::new();
    let mut inserts = 0;
    let mut spoilt = vec![(block, token.clone(), exception)];
    while let Some((mut block, token, exception)) = spoilt.pop() {
        if block.rows() <= 1 || inserts >= MOST_INSERTS {
            condemn(&mut block, &reason(&exception));
            let token = token.part("rejected");
            let found = store.insert(&mut block, &token).await;
            landed.extend(found.map_err(|_| StoreError::Unknown)?);
            continue;
        }
        let (first, second) = block.split_at(block.rows() / 2);
        for (which, mut half) in [("first", first), ("second", second)] {
            let token = token.part(which);
            inserts += 1;
            match store.insert(&mut half, &token).await {
                Ok(more) => landed.extend(more),
                Err(StoreError::Refused(exception)) if exception.blame() == Blame::Row => {
                    spoilt.push((half, token, exception));
                }
                // Others are stored by now.
                Err(_) => return Err(StoreError::Unknown),
            }
        }
    }
    Ok(landed)
}

/// Sends all rows to quarantine that nobody has yet.
fn condemn(block: &mut Block, reason: &str) {
    block.say(|said| match said {
        b"" => reason.as_bytes().to_vec().into(),
        said if said == judged::TABLE_ONLY.as_bytes() => [said, reason.as_bytes()].concat().into(),
        said => said.into(),
    });
}

/// What the quarantine says of a row.
fn reason(exception: &Exception) -> String {
    format!(
        "ClickHouse cannot write the row: {} (exception {})",
        exception.message, exception.code
    )
}
