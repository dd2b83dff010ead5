//! Sending a request to one replica: over a connection that is there, or a new one, and with a
//! judgement of what its answer says of the replica.

use super::answer::Answer;
use super::blame::Blame;
use super::connection::{Connection, Request};
use super::error::UpstreamError;
use super::replica::Replica;
use std::sync::Arc;
use std::time::Instant;

impl Replica {
    /// Sends a request and waits for the head of its answer, which may be an exception. It is sent
    /// again when an idle connection turns out to be closed.
    pub(crate) async fn send(
        self: &Arc<Self>,
        request: &Request<'_>,
    ) -> Result<Answer, UpstreamError> {
        let now = Instant::now();
        if let Some(connection) = self.take_idle(now) {
            match self.exchange(now, connection, request).await {
                Err(UpstreamError::Interrupted(_)) => {}
                Err(error) => return Err(self.unanswered(error)),
                Ok(answer) => return self.judge(answer).await,
            }
        }
        self.look_after();
        let result = match self.connect().await {
            Ok(connection) => self.exchange(Instant::now(), connection, request).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(answer) => self.judge(answer).await,
            Err(error) => Err(self.unanswered(error)),
        }
    }

    /// Whether the replica, and not the statement, failed.
    async fn judge(&self, answer: Answer) -> Result<Answer, UpstreamError> {
        let result = answer.or_exception().await;
        match &result {
            Err(error @ UpstreamError::Refused(exception))
                if exception.blame() == Blame::Replica =>
            {
                self.fail(error);
            }
            Ok(_) => self.did_well(),
            Err(_) => {}
        }
        result
    }

    async fn exchange(
        self: &Arc<Self>,
        now: Instant,
        mut connection: Box<Connection>,
        request: &Request<'_>,
    ) -> Result<Answer, UpstreamError> {
        let head = connection
            .exchange(now, &self.address, request, self.losses())
            .await?;
        Ok(Answer::new(head, connection, Arc::clone(self)))
    }
}
