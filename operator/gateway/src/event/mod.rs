//! What becomes of requests: each ends as one event, whatever way it ends, and whoever wants to know
//! of requests is told by that.
//!
//! ```text
//! request -> Recorder -> [handlers note what happens] -> RecordedBody -> RequestEvent -> Consumers
//!                                                                                        metrics, access log
//! ```

mod access_log;
mod consumers;
mod recorded_body;
mod recorder;
mod request_event;
mod row_counter;

pub(crate) use access_log::AccessLog;
pub(crate) use consumers::Consumers;
pub(crate) use recorded_body::RecordedBody;
pub(crate) use recorder::{Recorder, Waiting};

#[cfg(test)]
mod tests;
