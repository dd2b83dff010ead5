//! Statements about users.
use crate::exception::Exception;
use crate::execute::{Failure, Job};
use crate::sql::statement::Statement;

pub(crate) fn change(_job: &Job, _statement: &Statement<'_>) -> Result<(), Failure> {
    Err(Exception::not_implemented("access").into())
}
pub(crate) fn show(_job: &Job, _statement: &Statement<'_>) -> Result<Option<String>, Failure> {
    Ok(None)
}
pub(crate) fn kill(_job: &Job, _statement: &Statement<'_>) -> Result<Option<String>, Failure> {
    Ok(None)
}
