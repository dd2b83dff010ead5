//! Reading access statements. ClickHouse's own parser has accepted them before; what this one does
//! not know is refused, never ignored.

use super::model::{Authentication, Setting, SettingElement, Subjects};
use super::statement::{AccessStatement, Changes, EntityName, IfExists};
use crate::exception::Exception;
use crate::sql::lexer::Kind;
use crate::sql::statement::Statement;

type Result<T> = std::result::Result<T, Exception>;

/// Privileges whose ON names something else than a table.
const NOT_ON_TABLES: [&[&str]; 4] = [
    &["SET", "DEFINER"],
    &["TABLE", "ENGINE"],
    &["NAMED", "COLLECTION"],
    &["READ"],
];

/// Functions that would tell of libchdb's user in place of the one who asks.
const OF_THE_USER: [&str; 3] = ["currentUser", "current_user", "user"];

/// Understands an access statement of somebody who is in this database.
pub(crate) fn parse(statement: &Statement<'_>, database: &str) -> Result<AccessStatement> {
    let is_end = |index: &usize| statement.is_symbol(*index, b';');
    let mut parser = Parser {
        statement,
        database,
        at: 0,
        end: (0..statement.tokens.len())
            .find(is_end)
            .unwrap_or(statement.tokens.len()),
    };
    let parsed = parser.statement()?;
    if parser.at < parser.end {
        return Err(parser.unsupported());
    }
    Ok(parsed)
}

/// What kind of thing a statement is about, before its names are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EntityKind {
    User,
    Role,
    Profile,
    Policy,
}

struct Parser<'a> {
    statement: &'a Statement<'a>,
    database: &'a str,
    at: usize,
    end: usize,
}

impl Parser<'_> {
    /// Takes these words, or nothing.
    fn take(&mut self, keywords: &[&str]) -> bool {
        let found = self.at + keywords.len() <= self.end && self.statement.are(self.at, keywords);
        if found {
            self.at += keywords.len();
        }
        found
    }

    fn take_symbol(&mut self, symbol: u8) -> bool {
        let found = self.at < self.end && self.statement.is_symbol(self.at, symbol);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, keyword: &str) -> Result<()> {
        if self.take(&[keyword]) {
            return Ok(());
        }
        Err(self.unsupported())
    }

    fn unsupported(&self) -> Exception {
        let rest = self.text(self.at, self.end);
        let shown: String = rest.chars().take(60).collect();
        Exception::not_implemented(format!(
            "This engine's access control does not support this statement from `{shown}` on."
        ))
    }

    fn name(&mut self) -> Result<String> {
        let name = (self.at < self.end)
            .then(|| self.statement.name(self.at))
            .flatten()
            .ok_or_else(|| self.unsupported())?;
        self.at += 1;
        Ok(name)
    }

    fn names(&mut self) -> Result<Vec<String>> {
        let mut names = vec![self.name()?];
        while self.take_symbol(b',') {
            names.push(self.name()?);
        }
        Ok(names)
    }

    /// Tokens as text: comments gone, blanks only where there were some.
    fn text(&self, start: usize, end: usize) -> String {
        let tokens = &self.statement.tokens;
        (start..end).fold(String::new(), |mut text, index| {
            if index > start && tokens[index].range.start > tokens[index - 1].range.end {
                text.push(' ');
            }
            text + &String::from_utf8_lossy(self.statement.raw(index))
        })
    }

    fn statement(&mut self) -> Result<AccessStatement> {
        if self.take(&["GRANT"]) {
            return self.grant();
        }
        if self.take(&["REVOKE"]) {
            return self.revoke();
        }
        if self.take(&["CREATE"]) {
            let replace = self.take(&["OR", "REPLACE"]);
            let kind = self.kind()?;
            let exists = if replace || self.take(&["OR", "REPLACE"]) {
                IfExists::Replace
            } else if self.take(&["IF", "NOT", "EXISTS"]) {
                IfExists::Keep
            } else {
                IfExists::Fail
            };
            return Ok(AccessStatement::Create {
                names: self.entity_names(kind)?,
                exists,
                changes: self.changes(kind)?,
            });
        }
        if self.take(&["ALTER"]) {
            let kind = self.kind()?;
            return Ok(AccessStatement::Alter {
                if_exists: self.take(&["IF", "EXISTS"]),
                names: self.entity_names(kind)?,
                changes: self.changes(kind)?,
            });
        }
        self.expect("DROP")?;
        let kind = self.kind()?;
        Ok(AccessStatement::Drop {
            if_exists: self.take(&["IF", "EXISTS"]),
            names: self.entity_names(kind)?,
        })
    }

    fn kind(&mut self) -> Result<EntityKind> {
        if self.take(&["USER"]) {
            Ok(EntityKind::User)
        } else if self.take(&["ROLE"]) {
            Ok(EntityKind::Role)
        } else if self.take(&["SETTINGS", "PROFILE"]) || self.take(&["PROFILE"]) {
            Ok(EntityKind::Profile)
        } else if self.take(&["ROW", "POLICY"]) || self.take(&["POLICY"]) {
            Ok(EntityKind::Policy)
        } else if self.take(&["QUOTA"]) {
            Err(Exception::not_implemented(
                "Quotas cannot be enforced by this engine, so they are refused: limit users by settings profiles.",
            ))
        } else {
            Err(self.unsupported())
        }
    }

    fn entity_names(&mut self, kind: EntityKind) -> Result<Vec<EntityName>> {
        let names = self.names()?.into_iter();
        let name = match kind {
            EntityKind::User => EntityName::User,
            EntityKind::Role => EntityName::Role,
            EntityKind::Profile => EntityName::Profile,
            EntityKind::Policy => {
                let (database, table) = self.table()?;
                let policy = |name| EntityName::Policy {
                    name,
                    database: database.clone(),
                    table: table.clone(),
                };
                return Ok(names.map(policy).collect());
            }
        };
        Ok(names.map(name).collect())
    }

    /// `ON [database.]table`
    fn table(&mut self) -> Result<(String, String)> {
        self.expect("ON")?;
        let first = self.name()?;
        if self.take_symbol(b'.') {
            return Ok((first, self.name()?));
        }
        Ok((self.database.to_owned(), first))
    }

    fn changes(&mut self, kind: EntityKind) -> Result<Changes> {
        let mut changes = Changes::default();
        while self.at < self.end {
            let known = match kind {
                EntityKind::User => self.user_clause(&mut changes)?,
                EntityKind::Role => false,
                EntityKind::Profile => self.settings_clause(&mut changes)?,
                EntityKind::Policy => self.policy_clause(&mut changes)?,
            };
            if !known {
                return Err(self.unsupported());
            }
        }
        Ok(changes)
    }

    fn user_clause(&mut self, changes: &mut Changes) -> Result<bool> {
        if self.take(&["NOT", "IDENTIFIED"]) {
            changes.authentication = Some(Authentication::NoPassword);
        } else if self.take(&["IDENTIFIED"]) {
            changes.authentication = Some(self.authentication()?);
        } else if self.take(&["DEFAULT", "DATABASE"]) {
            changes.default_database = Some(self.name()?);
        } else {
            return self.settings_clause(changes);
        }
        Ok(true)
    }

    fn authentication(&mut self) -> Result<Authentication> {
        let method = if self.take(&["WITH"]) {
            self.name()?.to_ascii_lowercase()
        } else {
            "sha256_password".to_owned()
        };
        if method == "no_password" {
            return Ok(Authentication::NoPassword);
        }
        self.expect("BY")?;
        let secret = self.name()?;
        match method.as_str() {
            "sha256_password" => Ok(Authentication::of_password(&secret)),
            "sha256_hash" => Ok(Authentication::Sha256 { hash: secret }),
            other => Err(Exception::not_implemented(format!(
                "Authentication with {other} is not supported by this engine: use sha256_password or sha256_hash."
            ))),
        }
    }

    fn settings_clause(&mut self, changes: &mut Changes) -> Result<bool> {
        if !self.take(&["SETTINGS"]) {
            return Ok(false);
        }
        let mut elements = Vec::new();
        if !self.take(&["NONE"]) {
            elements.push(self.setting()?);
            while self.take_symbol(b',') {
                elements.push(self.setting()?);
            }
        }
        changes.settings = Some(elements);
        Ok(true)
    }

    fn setting(&mut self) -> Result<SettingElement> {
        if self.take(&["PROFILE"]) {
            return self.name().map(SettingElement::Inherit);
        }
        let mut setting = Setting {
            name: self.name()?,
            ..Setting::default()
        };
        if self.take_symbol(b'=') {
            setting.value = Some(self.value()?);
        }
        loop {
            if self.take(&["MIN"]) {
                setting.min = Some(self.value()?);
            } else if self.take(&["MAX"]) {
                setting.max = Some(self.value()?);
            } else if self.take(&["CONST"]) {
                setting.constant = true;
            } else {
                return Ok(SettingElement::Setting(setting));
            }
        }
    }

    /// A string, a number with its sign and point, or a word.
    fn value(&mut self) -> Result<String> {
        let start = self.at;
        self.take_symbol(b'-');
        if self.statement.is_string(self.at) {
            return self.name();
        }
        let is_part = |index: usize| {
            matches!(
                self.statement.tokens[index].kind,
                Kind::Word | Kind::Number | Kind::Symbol(b'.')
            )
        };
        // What touches the token before, as in `1.5`.
        let mut end = self.at;
        let touches =
            |index: usize| index == self.at || !self.text(index - 1, index + 1).contains(' ');
        while end < self.end && is_part(end) && touches(end) {
            end += 1;
        }
        if end == self.at {
            return Err(self.unsupported());
        }
        self.at = end;
        Ok(self.text(start, end))
    }

    fn policy_clause(&mut self, changes: &mut Changes) -> Result<bool> {
        if self.take(&["FOR", "SELECT"]) {
            // The only kind there is.
        } else if self.take(&["AS", "RESTRICTIVE"]) {
            changes.restrictive = Some(true);
        } else if self.take(&["AS", "PERMISSIVE"]) {
            changes.restrictive = Some(false);
        } else if self.take(&["USING"]) {
            changes.filter = Some(self.filter()?);
        } else if self.take(&["TO"]) {
            changes.to = Some(self.subjects()?);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// An expression, up to the next clause or the end.
    fn filter(&mut self) -> Result<String> {
        let start = self.at;
        let ends: [&[&str]; 4] = [
            &["TO"],
            &["AS", "RESTRICTIVE"],
            &["AS", "PERMISSIVE"],
            &["FOR", "SELECT"],
        ];
        self.at = self.next_at_top(start + 1, &ends).unwrap_or(self.end);
        if OF_THE_USER.iter().any(|name| self.statement.calls(name)) {
            return Err(Exception::not_implemented(
                "A row policy of this engine cannot ask for the current user: name him after TO.",
            ));
        }
        Ok(self.text(start, self.at))
    }

    /// The next place outside of parentheses where one of these words stands.
    fn next_at_top(&self, from: usize, words: &[&[&str]]) -> Option<usize> {
        let mut depth = 0_i32;
        (self.at..self.end).find(|index| {
            match self.statement.tokens[*index].kind {
                Kind::Symbol(b'(') => depth += 1,
                Kind::Symbol(b')') => depth -= 1,
                _ => {}
            }
            let stands = || words.iter().any(|words| self.statement.are(*index, words));
            depth == 0 && *index >= from && stands()
        })
    }

    /// `ALL [EXCEPT ...]`, `NONE`, or names.
    fn subjects(&mut self) -> Result<Subjects> {
        let mut subjects = Subjects::default();
        if self.take(&["ALL"]) {
            subjects.all = true;
            if self.take(&["EXCEPT"]) {
                subjects.except = self.names()?.into_iter().collect();
            }
        } else if !self.take(&["NONE"]) {
            subjects.names = self.names()?.into_iter().collect();
        }
        Ok(subjects)
    }

    fn grant(&mut self) -> Result<AccessStatement> {
        let Some(privileges) = self.privileges("TO")? else {
            let roles = self.names()?;
            self.expect("TO")?;
            let grantees = self.names()?;
            return Ok(AccessStatement::GrantRoles { roles, grantees });
        };
        let grantees = self.names()?;
        let option = if self.take(&["WITH", "GRANT", "OPTION"]) {
            " WITH GRANT OPTION"
        } else {
            ""
        };
        Ok(AccessStatement::Privileges {
            statement: format!("GRANT {privileges}{option}"),
            grantees,
        })
    }

    fn revoke(&mut self) -> Result<AccessStatement> {
        let Some(privileges) = self.privileges("FROM")? else {
            let roles = self.names()?;
            self.expect("FROM")?;
            let grantees = self.names()?;
            return Ok(AccessStatement::RevokeRoles { roles, grantees });
        };
        Ok(AccessStatement::Privileges {
            statement: format!("REVOKE {privileges}"),
            grantees: self.names()?,
        })
    }

    /// The text of privileges up to this word, which is taken as well; nothing where roles follow.
    fn privileges(&mut self, word: &str) -> Result<Option<String>> {
        let start = self.at;
        let end = self.next_at_top(start + 1, &[&[word]]);
        let Some(end) = end.filter(|_| !self.statement.is(start, "CURRENT")) else {
            return Err(self.unsupported());
        };
        let mut privilege = start;
        for index in start..end {
            if !self.statement.is(index, "ON") {
                continue;
            }
            let named = |at| {
                NOT_ON_TABLES
                    .iter()
                    .any(|words| self.statement.are(at, words))
            };
            let is_qualified = self.statement.is_symbol(index + 2, b'.');
            if !is_qualified && !(privilege..index).any(named) {
                self.at = index;
                return Err(self.unsupported());
            }
            privilege = index + 1;
        }
        if privilege == start {
            return Ok(None);
        }
        self.at = end + 1;
        Ok(Some(self.text(start, end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<AccessStatement> {
        parse(&Statement::new(text.as_bytes()), "here")
    }

    #[test]
    fn a_user_with_everything() {
        let setting = |name: &str, value: &str| Setting {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            ..Setting::default()
        };
        let changes = Changes {
            authentication: Some(Authentication::of_password("s;")),
            default_database: Some("d".to_owned()),
            settings: Some(vec![
                SettingElement::Inherit("p".to_owned()),
                SettingElement::Setting(Setting {
                    min: Some("1".to_owned()),
                    max: Some("4".to_owned()),
                    constant: true,
                    ..setting("max_threads", "3")
                }),
                SettingElement::Setting(setting("x", "-1.5")),
                SettingElement::Setting(setting("readonly", "1")),
            ]),
            ..Changes::default()
        };
        let user = |name: &str| EntityName::User(name.to_owned());
        assert_eq!(
            read(
                "CREATE USER IF NOT EXISTS `a`, b IDENTIFIED WITH sha256_password BY 's;' DEFAULT DATABASE d \
                 SETTINGS PROFILE 'p', `max_threads` = '3' MIN 1 MAX 4 CONST, x = -1.5, readonly = 1;",
            )
            .unwrap(),
            AccessStatement::Create {
                names: vec![user("a"), user("b")],
                exists: IfExists::Keep,
                changes,
            }
        );
    }

    #[test]
    fn grants_keep_their_text() {
        for (text, statement, grantee) in [
            (
                "GRANT SELECT(a, `to`), /* x */ INSERT ON d.t, ALTER ON d.* TO x WITH GRANT OPTION",
                "GRANT SELECT(a, `to`), INSERT ON d.t, ALTER ON d.* WITH GRANT OPTION",
                "x",
            ),
            (
                "grant set definer on alice to bob",
                "GRANT set definer on alice",
                "bob",
            ),
            ("REVOKE ALL ON *.* FROM x", "REVOKE ALL ON *.*", "x"),
        ] {
            let expected = AccessStatement::Privileges {
                statement: statement.to_owned(),
                grantees: vec![grantee.to_owned()],
            };
            assert_eq!(read(text).unwrap(), expected);
        }
        let roles = AccessStatement::GrantRoles {
            roles: vec!["r1".to_owned(), "r 2".to_owned()],
            grantees: vec!["u".to_owned()],
        };
        assert_eq!(read("GRANT r1, `r 2` TO u").unwrap(), roles);
    }

    #[test]
    fn policies_name_their_tables() {
        let subjects = Subjects {
            all: true,
            except: ["x".to_owned()].into(),
            ..Subjects::default()
        };
        let name = |name: &str| EntityName::Policy {
            name: name.to_owned(),
            database: "here".to_owned(),
            table: "t".to_owned(),
        };
        assert_eq!(
            read("CREATE ROW POLICY p, q ON t FOR SELECT USING (a = 'TO') AND b > 1 AS restrictive TO ALL EXCEPT x")
                .unwrap(),
            AccessStatement::Create {
                names: vec![name("p"), name("q")],
                exists: IfExists::Fail,
                changes: Changes {
                    filter: Some("(a = 'TO') AND b > 1".to_owned()),
                    restrictive: Some(true),
                    to: Some(subjects),
                    ..Changes::default()
                },
            }
        );
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        for text in [
            "CREATE QUOTA q FOR INTERVAL 1 hour MAX queries = 1 TO u",
            "CREATE USER u HOST LOCAL",
            "CREATE USER u IDENTIFIED WITH bcrypt_password BY 'x'",
            "CREATE USER u VALID UNTIL '2030-01-01'",
            "CREATE USER u ON CLUSTER c",
            "CREATE ROLE r SETTINGS max_threads = 1",
            "ALTER USER u RENAME TO v",
            "GRANT CURRENT GRANTS ON *.* TO u",
            "GRANT SELECT ON t TO u",
            "GRANT r TO u WITH ADMIN OPTION",
            "CREATE MASKING POLICY p ON t",
            "CREATE ROW POLICY p ON t USING owner = currentUser() TO u",
        ] {
            assert_eq!(read(text).unwrap_err().code, 48, "{text}");
        }
    }
}
