//! Whose an exception is: the statement's, which fails alike everywhere, a row's, or the replica's,
//! where another may do better.
//!
//! The numbers are those of `ErrorCodes.cpp` in ClickHouse, which never change.

use super::exception::Exception;

/// Who is to blame for an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The statement, or what its user may do and use.
    Statement,
    /// A row among those that are written: without it, the others can be.
    Row,
    /// What the replica has of a workspace, or lets its users do now. Others are as well served by it
    /// as ever.
    Place,
    /// The replica as a whole.
    Replica,
}

impl Exception {
    /// Who is to blame.
    pub(crate) fn blame(&self) -> Blame {
        match self.code {
            // MEMORY_LIMIT_EXCEEDED: of the whole server, or of the query and its user
            241 if self.message.contains("(total)") => Blame::Replica,
            // CHECKSUM_DOESNT_MATCH, CANNOT_READ_FROM_FILE_DESCRIPTOR, CANNOT_WRITE_TO_FILE_DESCRIPTOR,
            // CANNOT_OPEN_FILE, CANNOT_ALLOCATE_MEMORY
            40 | 74..=76 | 173
            // DNS_ERROR, NO_FREE_CONNECTION, SOCKET_TIMEOUT, NETWORK_ERROR, NO_ZOOKEEPER, ABORTED,
            // TABLE_IS_READ_ONLY, NOT_ENOUGH_SPACE
            | 198 | 203 | 209 | 210 | 225 | 236 | 242 | 243
            // ALL_CONNECTION_TRIES_FAILED, UNKNOWN_STATUS_OF_INSERT, QUERY_WAS_CANCELLED (by a server
            // that stops), CANNOT_SCHEDULE_TASK, S3_ERROR, KEEPER_EXCEPTION
            | 279 | 319 | 394 | 439 | 499 | 999 => Blame::Replica,
            // POCO_EXCEPTION: a parameter is too long.
            1000 => Blame::Statement,
            // A login, a setting or a database, or something that is not ClickHouse.
            _ if self.is_early => Blame::Place,
            // UNKNOWN_TABLE, UNKNOWN_DATABASE, UNKNOWN_USER, AUTHENTICATION_FAILED: it was away when
            // these were made
            60 | 81 | 192 | 516
            // TOO_MANY_SIMULTANEOUS_QUERIES, QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING, TOO_MANY_PARTS
            | 202 | 216 | 252 => Blame::Place,
            // CANNOT_PARSE_TEXT, CANNOT_PARSE_ESCAPE_SEQUENCE, CANNOT_PARSE_QUOTED_STRING,
            // CANNOT_PARSE_INPUT_ASSERTION_FAILED, ATTEMPT_TO_READ_AFTER_EOF, BAD_ARGUMENTS,
            // CANNOT_PARSE_DATE, CANNOT_PARSE_DATETIME
            6 | 25..=27 | 32 | 36 | 38 | 41
            // ARGUMENT_OUT_OF_BOUND, CANNOT_CONVERT_TYPE, CANNOT_PARSE_NUMBER, TOO_LARGE_ARRAY_SIZE,
            // TOO_LARGE_STRING_SIZE, ILLEGAL_DIVISION
            | 69 | 70 | 72 | 128 | 131 | 153
            // SIZES_OF_ARRAYS_DONT_MATCH, INVALID_PARTITION_VALUE, VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE,
            // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN, CANNOT_PARSE_UUID
            | 190 | 248 | 321 | 349 | 376
            // FUNCTION_THROW_IF_VALUE_IS_NON_ZERO, DECIMAL_OVERFLOW, VIOLATED_CONSTRAINT,
            // CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING, CANNOT_PARSE_BOOL
            | 395 | 407 | 441 | 467 | 469
            // UNKNOWN_ELEMENT_OF_ENUM, CANNOT_PARSE_IPV4, CANNOT_PARSE_IPV6
            | 691 | 675 | 676 => Blame::Row,
            _ => Blame::Statement,
        }
    }

    /// Whether it comes before anything is written, or after all that was written is gone again.
    pub(crate) fn precedes_writing(&self) -> bool {
        match self.blame() {
            _ if self.is_early => true,
            Blame::Statement | Blame::Place => true,
            // Of one part of an INSERT, when others may be stored.
            Blame::Row => false,
            // TABLE_IS_READ_ONLY
            Blame::Replica => self.code == 242,
        }
    }

    /// Whether only a replicated table says so: it knows at every replica what is stored already.
    pub(super) fn tells_of_replication(&self) -> bool {
        // NO_ZOOKEEPER, TABLE_IS_READ_ONLY, UNKNOWN_STATUS_OF_INSERT, KEEPER_EXCEPTION
        matches!(self.code, 225 | 242 | 319 | 999)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exception(code: i32, message: &str) -> Exception {
        Exception {
            code,
            message: message.to_owned(),
            is_early: false,
        }
    }

    #[test]
    fn before_the_query_nothing_is_a_rows_fault_or_written() {
        for (code, blame) in [
            (395, Blame::Place),
            (516, Blame::Place),
            (452, Blame::Place),
            (999, Blame::Replica),
            (1000, Blame::Statement),
        ] {
            let early = Exception::before_the_query(code);
            assert_eq!(early.blame(), blame, "{code}");
            assert!(early.precedes_writing(), "{code}");
        }
    }

    #[test]
    fn each_has_one_to_blame() {
        for (code, message, blame) in [
            (62, "Syntax error", Blame::Statement),
            (47, "Unknown expression", Blame::Statement),
            (159, "Timeout exceeded", Blame::Statement),
            (497, "Not enough privileges", Blame::Statement),
            (241, "(for query) memory limit exceeded", Blame::Statement),
            (241, "(total) memory limit exceeded", Blame::Replica),
            (242, "Table is in readonly mode", Blame::Replica),
            (999, "Session expired", Blame::Replica),
            (202, "Too many simultaneous queries", Blame::Place),
            (60, "Unknown table", Blame::Place),
            (153, "Division by zero", Blame::Row),
            (469, "Constraint is violated", Blame::Row),
        ] {
            assert_eq!(exception(code, message).blame(), blame, "{code}");
        }
    }

    #[test]
    fn what_may_have_written_is_not_said_to_precede_it() {
        assert!(exception(242, "").precedes_writing());
        assert!(!exception(999, "").precedes_writing());
        assert!(!exception(153, "").precedes_writing());
    }
}
