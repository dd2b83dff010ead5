//! Reading the settings of users, roles and profiles.

use super::model::{Setting, SettingElement, Writability};
use super::parse::Parser;
use crate::exception::Exception;
use crate::sql::lexer::Kind;
use crate::sql::unquote::unquote;

type Result<T> = std::result::Result<T, Exception>;

impl Parser<'_> {
    pub(super) fn settings(&mut self) -> Result<Vec<SettingElement>> {
        if self.take(&["NONE"]) {
            return Ok(Vec::new());
        }
        let mut elements = vec![self.setting()?];
        while self.take_symbol(b',') {
            elements.push(self.setting()?);
        }
        Ok(elements)
    }

    fn setting(&mut self) -> Result<SettingElement> {
        if self.take(&["PROFILE"]) || self.take(&["INHERIT"]) {
            return self.name().map(SettingElement::Inherit);
        }
        let mut setting = Setting {
            name: self.name()?,
            ..Setting::default()
        };
        if self.take_symbol(b'=') {
            setting.value = Some(self.value()?);
        }
        while self.at < self.end {
            if self.take(&["MIN"]) {
                self.take_symbol(b'=');
                setting.min = Some(self.value()?);
            } else if self.take(&["MAX"]) {
                self.take_symbol(b'=');
                setting.max = Some(self.value()?);
            } else if self.take(&["READONLY"]) || self.take(&["CONST"]) {
                setting.writability = Some(Writability::Const);
            } else if self.take(&["WRITABLE"]) {
                setting.writability = Some(Writability::Writable);
            } else if self.take(&["CHANGEABLE_IN_READONLY"]) {
                setting.writability = Some(Writability::ChangeableInReadonly);
            } else if setting.value.is_none() && setting.min.is_none() && self.is_value() {
                // `name value`, without the sign.
                setting.value = Some(self.value()?);
            } else {
                break;
            }
        }
        Ok(SettingElement::Setting(setting))
    }

    fn is_value(&self) -> bool {
        self.at < self.end
            && matches!(
                self.statement.tokens[self.at].kind,
                Kind::String | Kind::Number | Kind::Symbol(b'-')
            )
    }

    /// A literal: a string, a number with its sign and point, or a word.
    fn value(&mut self) -> Result<String> {
        let start = self.at;
        self.take_symbol(b'-');
        let Some(token) = self
            .statement
            .tokens
            .get(self.at)
            .filter(|_| self.at < self.end)
        else {
            return Err(self.unsupported());
        };
        match token.kind {
            Kind::String => {
                self.at += 1;
                return Ok(unquote(self.statement.raw(self.at - 1)));
            }
            Kind::Word | Kind::Number => self.at += 1,
            _ => return Err(self.unsupported()),
        }
        Ok((start..self.at)
            .map(|index| String::from_utf8_lossy(self.statement.raw(index)))
            .collect())
    }
}
