//! Why a token cannot be given out, in words for who made it.

use crate::secrets::{FEWEST_DIFFERENT, SHORTEST_VALUE};
use crate::workspace::findings::Fault;
use aviary_crds::conditions::Reason;
use aviary_plan::model::ValidAccessToken;
use aviary_plan::{ObjectKey, Rejection};

pub(super) fn conflict(token: &ValidAccessToken) -> Rejection {
    rejection(token, foreign(token))
}

/// A Secret lies where the token's should be.
pub(super) fn foreign(token: &ValidAccessToken) -> Fault {
    Fault::new(
        Reason::SecretConflict,
        format!(
            "Secret `{}` exists and is not this token's: name another in spec.secretName, delete that Secret, or label it `aviary.dev/role: token` to use the value it holds under the key `token`",
            token.secret_name
        ),
    )
}

pub(super) fn weak(token: &ValidAccessToken) -> Rejection {
    Rejection {
        object: ObjectKey::AccessToken(token.object.clone()),
        reason: Reason::ValueTooWeak,
        message: format!(
            "the value in Secret `{}` could be guessed: a value has at least {SHORTEST_VALUE} bytes, {FEWEST_DIFFERENT} of them different; `openssl rand -hex 32` makes one",
            token.secret_name
        ),
    }
}

/// Says nothing of whose the value is.
pub(super) fn taken_value(token: String) -> Rejection {
    Rejection {
        object: ObjectKey::AccessToken(token),
        reason: Reason::ValueTaken,
        message: "the value in this token's Secret is in use or was: put another one there, or delete the Secret to get a new value".to_owned(),
    }
}

pub(super) fn not_made(token: &ValidAccessToken, failure: Option<Fault>) -> Rejection {
    let under_way = || {
        let message = format!("Secret `{}` is being made", token.secret_name);
        Fault::new(Reason::InProgress, message)
    };
    rejection(token, failure.unwrap_or_else(under_way))
}

fn rejection(token: &ValidAccessToken, Fault { reason, message }: Fault) -> Rejection {
    Rejection {
        object: ObjectKey::AccessToken(token.object.clone()),
        reason,
        message,
    }
}
