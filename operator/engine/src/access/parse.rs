//! Reading access statements. ClickHouse's own parser has accepted them before; what this one does
//! not know is refused, never ignored.

use super::model::{Authentication, Subjects};
use super::statement::{
    AccessStatement, DefaultDatabase, EntityKind, IfExists, Options, PolicyName, PolicyOptions,
};
use crate::exception::Exception;
use crate::sql::lexer::Kind;
use crate::sql::statement::Statement;

type Result<T> = std::result::Result<T, Exception>;

/// Who runs a statement, and where.
pub(crate) struct Situation<'a> {
    pub(crate) user: &'a str,
    pub(crate) database: &'a str,
}

/// Understands an access statement.
pub(crate) fn parse(
    statement: &Statement<'_>,
    situation: &Situation<'_>,
) -> Result<AccessStatement> {
    let mut parser = Parser {
        statement,
        situation,
        at: 0,
        end: statement
            .tokens
            .iter()
            .position(|token| token.kind == Kind::Symbol(b';'))
            .unwrap_or(statement.tokens.len()),
    };
    let parsed = parser.statement()?;
    if parser.at < parser.end {
        return Err(parser.unsupported());
    }
    Ok(parsed)
}

pub(super) struct Parser<'a> {
    pub(super) statement: &'a Statement<'a>,
    pub(super) situation: &'a Situation<'a>,
    pub(super) at: usize,
    pub(super) end: usize,
}

impl Parser<'_> {
    pub(super) fn peek(&self, keyword: &str) -> bool {
        self.at < self.end && self.statement.is(self.at, keyword)
    }

    /// Takes these words, or nothing.
    pub(super) fn take(&mut self, keywords: &[&str]) -> bool {
        let found = self.at + keywords.len() <= self.end && self.statement.are(self.at, keywords);
        if found {
            self.at += keywords.len();
        }
        found
    }

    pub(super) fn take_symbol(&mut self, symbol: u8) -> bool {
        let found = self.at < self.end && self.statement.is_symbol(self.at, symbol);
        if found {
            self.at += 1;
        }
        found
    }

    pub(super) fn unsupported(&self) -> Exception {
        let text = if self.at < self.end {
            let start = self.statement.tokens[self.at].range.start;
            let end = self.statement.tokens[self.end - 1]
                .range
                .end
                .min(start + 60);
            String::from_utf8_lossy(&self.statement.text[start..end]).into_owned()
        } else {
            "the end".to_owned()
        };
        Exception::not_implemented(format!(
            "This engine's access control does not support this statement from `{text}` on."
        ))
    }

    pub(super) fn name(&mut self) -> Result<String> {
        if self.take(&["CURRENT_USER"]) {
            return Ok(self.situation.user.to_owned());
        }
        let name = (self.at < self.end)
            .then(|| self.statement.name(self.at))
            .flatten()
            .ok_or_else(|| self.unsupported())?;
        self.at += 1;
        Ok(name)
    }

    pub(super) fn names(&mut self) -> Result<Vec<String>> {
        let mut names = vec![self.name()?];
        while self.take_symbol(b',') {
            names.push(self.name()?);
        }
        Ok(names)
    }

    fn statement(&mut self) -> Result<AccessStatement> {
        if self.take(&["GRANT"]) {
            return self.grant();
        }
        if self.take(&["REVOKE"]) {
            return self.revoke();
        }
        if self.take(&["SET", "DEFAULT", "ROLE"]) {
            let roles = self.subjects()?;
            if !self.take(&["TO"]) {
                return Err(self.unsupported());
            }
            let users = self.names()?;
            return Ok(AccessStatement::SetDefaultRoles { roles, users });
        }
        if self.take(&["CREATE"]) {
            return self.create();
        }
        if self.take(&["ALTER"]) {
            return self.alter();
        }
        if self.take(&["DROP"]) {
            return self.drop();
        }
        Err(self.unsupported())
    }

    fn kind(&mut self) -> Result<Option<EntityKind>> {
        if self.take(&["USER"]) {
            Ok(Some(EntityKind::User))
        } else if self.take(&["ROLE"]) {
            Ok(Some(EntityKind::Role))
        } else if self.take(&["SETTINGS", "PROFILE"]) || self.take(&["PROFILE"]) {
            Ok(Some(EntityKind::Profile))
        } else if self.take(&["ROW", "POLICY"]) || self.take(&["POLICY"]) {
            Ok(None)
        } else if self.peek("QUOTA") {
            Err(Exception::not_implemented(
                "Quotas cannot be enforced by this engine, so they are refused: limit users by settings profiles.",
            ))
        } else {
            Err(self.unsupported())
        }
    }

    fn create(&mut self) -> Result<AccessStatement> {
        let mut exists = IfExists::Fail;
        if self.take(&["OR", "REPLACE"]) {
            exists = IfExists::Replace;
        }
        let kind = self.kind()?;
        if self.take(&["IF", "NOT", "EXISTS"]) {
            exists = IfExists::Keep;
        } else if self.take(&["OR", "REPLACE"]) {
            exists = IfExists::Replace;
        }
        let Some(kind) = kind else {
            let policies = self.policy_names()?;
            let options = self.policy_options()?;
            return Ok(AccessStatement::CreatePolicy {
                policies,
                exists,
                options,
            });
        };
        let names = self.names()?;
        let options = self.options(kind)?;
        Ok(AccessStatement::Create {
            kind,
            names,
            exists,
            options,
        })
    }

    fn alter(&mut self) -> Result<AccessStatement> {
        let kind = self.kind()?;
        let if_exists = self.take(&["IF", "EXISTS"]);
        let Some(kind) = kind else {
            let policies = self.policy_names()?;
            let rename = self.rename()?;
            let options = self.policy_options()?;
            return Ok(AccessStatement::AlterPolicy {
                policies,
                if_exists,
                rename,
                options,
            });
        };
        let names = self.names()?;
        let rename = self.rename()?;
        let options = self.options(kind)?;
        Ok(AccessStatement::Alter {
            kind,
            names,
            if_exists,
            rename,
            options,
        })
    }

    fn rename(&mut self) -> Result<Option<String>> {
        if self.take(&["RENAME", "TO"]) {
            return self.name().map(Some);
        }
        Ok(None)
    }

    fn drop(&mut self) -> Result<AccessStatement> {
        let kind = self.kind()?;
        let if_exists = self.take(&["IF", "EXISTS"]);
        let Some(kind) = kind else {
            return Ok(AccessStatement::DropPolicy {
                policies: self.policy_names()?,
                if_exists,
            });
        };
        Ok(AccessStatement::Drop {
            kind,
            names: self.names()?,
            if_exists,
        })
    }

    fn options(&mut self, kind: EntityKind) -> Result<Options> {
        let mut options = Options::default();
        while self.at < self.end {
            if kind == EntityKind::User && self.user_option(&mut options)? {
                continue;
            }
            if self.take(&["SETTINGS"]) {
                options.settings = Some(self.settings()?);
            } else if kind == EntityKind::Profile && self.take(&["TO"]) {
                options.to = Some(self.subjects()?);
            } else {
                return Err(self.unsupported());
            }
        }
        Ok(options)
    }

    fn user_option(&mut self, options: &mut Options) -> Result<bool> {
        if self.take(&["NOT", "IDENTIFIED"]) {
            options.authentication = Some(Authentication::NoPassword);
        } else if self.take(&["IDENTIFIED"]) {
            options.authentication = Some(self.authentication()?);
        } else if self.take(&["HOST", "ANY"]) {
            // The only host rule there is.
        } else if self.take(&["DEFAULT", "ROLE"]) {
            options.default_roles = Some(self.subjects()?);
        } else if self.take(&["DEFAULT", "DATABASE"]) {
            options.default_database = Some(if self.take(&["NONE"]) {
                DefaultDatabase::None
            } else {
                DefaultDatabase::Named(self.name()?)
            });
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn authentication(&mut self) -> Result<Authentication> {
        let method = if self.take(&["WITH"]) {
            self.name()?.to_ascii_lowercase()
        } else {
            "sha256_password".to_owned()
        };
        match method.as_str() {
            "no_password" => Ok(Authentication::NoPassword),
            "plaintext_password" | "sha256_password" => {
                Ok(Authentication::of_password(&self.by()?))
            }
            "sha256_hash" => {
                let hash = self.by()?;
                let salt = if self.take(&["SALT"]) {
                    self.name()?
                } else {
                    String::new()
                };
                Ok(Authentication::Sha256 { hash, salt })
            }
            other => Err(Exception::not_implemented(format!(
                "Authentication with {other} is not supported by this engine: use sha256_password or sha256_hash."
            ))),
        }
    }

    fn by(&mut self) -> Result<String> {
        if !self.take(&["BY"]) {
            return Err(self.unsupported());
        }
        self.name()
    }

    /// `ALL [EXCEPT ...]`, `NONE`, or names.
    pub(super) fn subjects(&mut self) -> Result<Subjects> {
        if self.take(&["NONE"]) {
            return Ok(Subjects::default());
        }
        if self.take(&["ALL"]) {
            let mut subjects = Subjects::all();
            if self.take(&["EXCEPT"]) {
                subjects.except = self.names()?.into_iter().collect();
            }
            return Ok(subjects);
        }
        Ok(Subjects {
            names: self.names()?.into_iter().collect(),
            ..Subjects::default()
        })
    }

    /// `name [, name] ON [database.]table [, ...]`
    fn policy_names(&mut self) -> Result<Vec<PolicyName>> {
        let mut found = Vec::new();
        loop {
            let names = self.names()?;
            if !self.take(&["ON"]) {
                return Err(self.unsupported());
            }
            loop {
                let (database, table) = self.table()?;
                found.extend(names.iter().map(|name| PolicyName {
                    name: name.clone(),
                    database: database.clone(),
                    table: table.clone(),
                }));
                let another_table = self.statement.is_symbol(self.at, b',')
                    && !self.statement.is(self.at + 2, "ON");
                if !another_table || !self.take_symbol(b',') {
                    break;
                }
            }
            if !self.take_symbol(b',') {
                return Ok(found);
            }
        }
    }

    fn table(&mut self) -> Result<(String, String)> {
        let first = self.name()?;
        if self.take_symbol(b'.') {
            return Ok((first, self.name()?));
        }
        Ok((self.situation.database.to_owned(), first))
    }

    fn policy_options(&mut self) -> Result<PolicyOptions> {
        let mut options = PolicyOptions::default();
        while self.at < self.end {
            if self.take(&["FOR", "SELECT"]) {
                // The only kind there is.
            } else if self.take(&["AS", "RESTRICTIVE"]) {
                options.restrictive = Some(true);
            } else if self.take(&["AS", "PERMISSIVE"]) {
                options.restrictive = Some(false);
            } else if self.take(&["USING"]) {
                options.filter = Some(self.filter());
            } else if self.take(&["TO"]) {
                options.to = Some(self.subjects()?);
            } else {
                return Err(self.unsupported());
            }
        }
        Ok(options)
    }

    /// An expression, up to the next clause or the end.
    fn filter(&mut self) -> String {
        let start = self.at;
        let mut depth = 0_usize;
        while self.at < self.end {
            match self.statement.tokens[self.at].kind {
                Kind::Symbol(b'(') => depth += 1,
                Kind::Symbol(b')') => depth = depth.saturating_sub(1),
                Kind::Word if depth == 0 && self.at > start => {
                    let clause = self.peek("TO")
                        || self.statement.are(self.at, &["AS", "RESTRICTIVE"])
                        || self.statement.are(self.at, &["AS", "PERMISSIVE"])
                        || self.statement.are(self.at, &["FOR", "SELECT"]);
                    if clause {
                        break;
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
        self.text(start, self.at)
    }

    /// Tokens as text: comments gone, blanks only where there were some.
    pub(super) fn text(&self, start: usize, end: usize) -> String {
        let mut text = String::new();
        for index in start..end {
            let tokens = &self.statement.tokens;
            if index > start && tokens[index].range.start > tokens[index - 1].range.end {
                text.push(' ');
            }
            text.push_str(&String::from_utf8_lossy(self.statement.raw(index)));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::model::{Setting, SettingElement, Writability};

    fn read(text: &str) -> Result<AccessStatement> {
        let statement = Statement::new(text.as_bytes());
        let situation = Situation {
            user: "me",
            database: "here",
        };
        parse(&statement, &situation)
    }

    #[test]
    fn a_user_with_everything() {
        let AccessStatement::Create {
            kind,
            names,
            exists,
            options,
        } = read(
            "CREATE USER IF NOT EXISTS `a`, b IDENTIFIED WITH sha256_password BY 's;' HOST ANY \
             DEFAULT ROLE r DEFAULT DATABASE d \
             SETTINGS PROFILE 'p', max_threads = 3 MIN 1 MAX = 4 CONST, x -1.5, readonly = 1;",
        )
        .unwrap()
        else {
            panic!("not a CREATE");
        };
        assert_eq!((kind, exists), (EntityKind::User, IfExists::Keep));
        assert_eq!(names, ["a", "b"]);
        assert_eq!(
            options.authentication,
            Some(Authentication::of_password("s;"))
        );
        assert!(options.default_roles.unwrap().names.contains("r"));
        assert_eq!(
            options.default_database,
            Some(DefaultDatabase::Named("d".to_owned()))
        );
        let setting = |name: &str, value: &str| Setting {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            ..Setting::default()
        };
        assert_eq!(
            options.settings.unwrap(),
            [
                SettingElement::Inherit("p".to_owned()),
                SettingElement::Setting(Setting {
                    min: Some("1".to_owned()),
                    max: Some("4".to_owned()),
                    writability: Some(Writability::Const),
                    ..setting("max_threads", "3")
                }),
                SettingElement::Setting(setting("x", "-1.5")),
                SettingElement::Setting(setting("readonly", "1")),
            ]
        );
    }

    #[test]
    fn grants_keep_their_text_and_name_their_database() {
        let text = |text: &str| match read(text).unwrap() {
            AccessStatement::Privileges {
                statement,
                grantees,
                ..
            } => (statement, grantees.join("+")),
            other => panic!("{other:?}"),
        };
        let pair = |left: &str, right: &str| (left.to_owned(), right.to_owned());
        assert_eq!(
            text(
                "GRANT SELECT(a, `to`), /* x */ INSERT ON d.t, ALTER ON u TO x, CURRENT_USER WITH GRANT OPTION"
            ),
            pair(
                "GRANT SELECT(a, `to`), INSERT ON d.t, ALTER ON `here`.u WITH GRANT OPTION",
                "x+me"
            )
        );
        assert_eq!(
            text("REVOKE GRANT OPTION FOR SELECT ON * FROM x"),
            pair("REVOKE GRANT OPTION FOR SELECT ON `here`.*", "x")
        );
        assert_eq!(
            text("grant set definer on alice to bob"),
            pair("GRANT set definer on alice", "bob")
        );
    }

    #[test]
    fn roles_are_granted_and_revoked() {
        assert_eq!(
            read("GRANT r1, `r 2` TO u WITH ADMIN OPTION").unwrap(),
            AccessStatement::GrantRoles {
                roles: vec!["r1".to_owned(), "r 2".to_owned()],
                grantees: vec!["u".to_owned()],
                admin: true,
                replace: false,
            }
        );
        assert_eq!(
            read("REVOKE ALL FROM u").unwrap(),
            AccessStatement::RevokeRoles {
                roles: None,
                grantees: vec!["u".to_owned()],
                only_admin: false,
            }
        );
    }

    #[test]
    fn policies_name_their_tables() {
        let AccessStatement::CreatePolicy { policies, options, .. } =
            read("CREATE ROW POLICY p ON d.t, u FOR SELECT USING (a = 'TO') AND b > 1 AS restrictive TO ALL EXCEPT x")
                .unwrap()
        else {
            panic!("not a policy");
        };
        let tables: Vec<_> = policies
            .iter()
            .map(|policy| format!("{}.{}.{}", policy.name, policy.database, policy.table))
            .collect();
        assert_eq!(tables, ["p.d.t", "p.here.u"]);
        assert_eq!(options.filter.as_deref(), Some("(a = 'TO') AND b > 1"));
        assert_eq!(options.restrictive, Some(true));
        assert!(options.to.unwrap().except.contains("x"));
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        for text in [
            "CREATE QUOTA q FOR INTERVAL 1 hour MAX queries = 1 TO u",
            "CREATE USER u HOST LOCAL",
            "CREATE USER u IDENTIFIED WITH bcrypt_password BY 'x'",
            "CREATE USER u VALID UNTIL '2030-01-01'",
            "CREATE USER u ON CLUSTER c",
            "GRANT CURRENT GRANTS ON *.* TO u",
            "CREATE MASKING POLICY p ON t",
        ] {
            assert_eq!(read(text).unwrap_err().code, 48, "{text}");
        }
    }
}
