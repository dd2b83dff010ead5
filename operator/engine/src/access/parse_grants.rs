//! Reading GRANT and REVOKE.

use super::parse::Parser;
use super::statement::AccessStatement;
use crate::exception::Exception;
use crate::sql::lexer::Kind;
use crate::sql::quote::Identifier;

type Result<T> = std::result::Result<T, Exception>;

/// Privileges whose ON names something else than a table.
const NOT_ON_TABLES: [&[&str]; 18] = [
    &["SET", "DEFINER"],
    &["IMPERSONATE"],
    &["TABLE", "ENGINE"],
    &["NAMED", "COLLECTION"],
    &["NAMED", "COLLECTIONS"],
    &["USE", "NAMED"],
    &["CREATE", "USER"],
    &["ALTER", "USER"],
    &["DROP", "USER"],
    &["CREATE", "ROLE"],
    &["ALTER", "ROLE"],
    &["DROP", "ROLE"],
    &["READ"],
    &["WRITE"],
    &["SOURCES"],
    &["SHOW", "USERS"],
    &["SHOW", "ROLES"],
    &["ACCESS", "MANAGEMENT"],
];

impl Parser<'_> {
    pub(super) fn grant(&mut self) -> Result<AccessStatement> {
        let start = self.at;
        let to = self.body("TO")?;
        let privileges = self.privileges(start, to)?;
        self.at = start;
        let roles = match privileges {
            Some(_) => Vec::new(),
            None => self.names()?,
        };
        if self.at != to && privileges.is_none() {
            return Err(self.unsupported());
        }
        self.at = to + 1;
        let grantees = self.names()?;
        let (mut grant_option, mut admin, mut replace) = (false, false, false);
        while self.at < self.end {
            if self.take(&["WITH", "GRANT", "OPTION"]) {
                grant_option = true;
            } else if self.take(&["WITH", "ADMIN", "OPTION"]) {
                admin = true;
            } else if self.take(&["WITH", "REPLACE", "OPTION"]) {
                replace = true;
            } else {
                return Err(self.unsupported());
            }
        }
        Ok(match privileges {
            Some(privileges) => AccessStatement::Privileges {
                statement: format!(
                    "GRANT {privileges}{}",
                    if grant_option {
                        " WITH GRANT OPTION"
                    } else {
                        ""
                    }
                ),
                grantees,
                replace,
            },
            None => AccessStatement::GrantRoles {
                roles,
                grantees,
                admin,
                replace,
            },
        })
    }

    pub(super) fn revoke(&mut self) -> Result<AccessStatement> {
        let only_admin = self.take(&["ADMIN", "OPTION", "FOR"]);
        let only_grant = self.take(&["GRANT", "OPTION", "FOR"]);
        let start = self.at;
        let from = self.body("FROM")?;
        let privileges = self.privileges(start, from)?;
        self.at = start;
        let roles = match privileges {
            Some(_) => None,
            None if self.take(&["ALL"]) => None,
            None => Some(self.names()?),
        };
        if self.at != from && privileges.is_none() {
            return Err(self.unsupported());
        }
        self.at = from + 1;
        let grantees = self.names()?;
        Ok(match privileges {
            Some(privileges) => AccessStatement::Privileges {
                statement: format!(
                    "REVOKE {}{privileges}",
                    if only_grant { "GRANT OPTION FOR " } else { "" }
                ),
                grantees,
                replace: false,
            },
            None => AccessStatement::RevokeRoles {
                roles,
                grantees,
                only_admin,
            },
        })
    }

    /// Finds the word that ends the granted things, outside of parentheses.
    fn body(&mut self, word: &str) -> Result<usize> {
        if self.peek("ON") || self.peek("CURRENT") {
            return Err(self.unsupported());
        }
        let mut depth = 0_usize;
        for index in self.at..self.end {
            match self.statement.tokens[index].kind {
                Kind::Symbol(b'(') => depth += 1,
                Kind::Symbol(b')') => depth = depth.saturating_sub(1),
                Kind::Word if depth == 0 && index > self.at && self.statement.is(index, word) => {
                    return Ok(index);
                }
                _ => {}
            }
        }
        Err(self.unsupported())
    }

    /// The text of privileges with every table's database spelled out; nothing
    /// where roles are granted.
    fn privileges(&self, start: usize, end: usize) -> Result<Option<String>> {
        let mut text = String::new();
        let (mut depth, mut from, mut segment) = (0_usize, start, start);
        let mut found = false;
        for index in start..end {
            match self.statement.tokens[index].kind {
                Kind::Symbol(b'(') => depth += 1,
                Kind::Symbol(b')') => depth = depth.saturating_sub(1),
                Kind::Word if depth == 0 && self.statement.is(index, "ON") => {
                    found = true;
                    let qualified = (index + 2 < end && self.statement.is_symbol(index + 2, b'.'))
                        || self.is_not_on_tables(segment, index);
                    if !qualified {
                        text.push_str(&self.text(from, index + 1));
                        text.push_str(&format!(" {}.", Identifier(self.situation.database)));
                        from = index + 1;
                    }
                    segment = index + 1;
                }
                _ => {}
            }
        }
        if !found {
            return Ok(None);
        }
        text.push_str(&self.text(from, end));
        if text.contains('\0') {
            return Err(self.unsupported());
        }
        Ok(Some(text))
    }

    fn is_not_on_tables(&self, start: usize, end: usize) -> bool {
        (start..end).any(|index| {
            NOT_ON_TABLES
                .iter()
                .any(|keywords| self.statement.are(index, keywords))
        })
    }
}
