//! The expression language inside template marks: a small part of Python's, as
//! in Tinybird's templates. This file knows its grammar only; what the names in
//! it mean is settled by `lower`.

use super::{Value, error::ParseError, expression_text::read_text, segments::Inner};

/// Deepest nesting of brackets and `not` in one expression.
const MAX_DEPTH: usize = 32;

/// An expression and where it begins in the template.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Expression {
    pub(super) at: usize,
    pub(super) kind: ExpressionKind,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum ExpressionKind {
    /// A text, number, `True` or `False`.
    Literal(Value),
    /// `None`.
    None,
    /// `[a, b]` or `(a, b)`.
    List(Vec<Expression>),
    /// A bare name.
    Name(String),
    /// `function(argument, name=argument)`.
    Call(Call),
    /// `not a`.
    Not(Box<Expression>),
    /// `a and b`.
    And(Vec<Expression>),
    /// `a or b`.
    Or(Vec<Expression>),
    /// `a == b` and its kin.
    Compare(Box<Expression>, Comparison, Box<Expression>),
    /// `a in b`.
    In(Box<Expression>, Box<Expression>),
}

/// A call of a function by name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) function: String,
    pub(super) positional: Vec<Expression>,
    pub(super) keywords: Vec<(String, Expression)>,
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// The comparison that says the same with its sides exchanged.
    pub(super) fn mirrored(self) -> Self {
        match self {
            Self::Equal | Self::NotEqual => self,
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
        }
    }
}

/// What may stand between two values.
enum Operator {
    Compare(Comparison),
    In,
    NotIn,
}

/// Parses the whole inside of a pair of marks as one expression.
pub(super) fn parse(inner: Inner<'_>) -> Result<Expression, ParseError> {
    let mut parser = Parser {
        tokens: tokenize(inner)?,
        next: 0,
        end: inner.at + inner.text.len(),
        depth: 0,
    };
    let expression = parser.or()?;
    match parser.peek() {
        None => Ok(expression),
        Some(_) => Err(parser.unexpected("the end of the expression")),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Name(String),
    Number(Value),
    Text(String),
    Symbol(&'static str),
}

const SYMBOLS: [&str; 13] = [
    "==", "!=", "<=", ">=", "<", ">", "=", "(", ")", "[", "]", ",", "-",
];

fn tokenize(inner: Inner<'_>) -> Result<Vec<(usize, Token)>, ParseError> {
    let mut tokens = Vec::new();
    let mut rest = inner.text;
    loop {
        rest = rest.trim_start();
        let at = inner.at + inner.text.len() - rest.len();
        let Some(first) = rest.chars().next() else {
            return Ok(tokens);
        };
        let (token, length) = match first {
            'a'..='z' | 'A'..='Z' | '_' => name(rest),
            '0'..='9' => number(rest, at)?,
            '\'' | '"' => {
                let (text, length) = read_text(rest, first)
                    .ok_or_else(|| ParseError::new(at, "this text does not end"))?;
                (Token::Text(text), length)
            }
            _ => symbol(rest, first, at)?,
        };
        tokens.push((at, token));
        rest = &rest[length..];
    }
}

fn name(rest: &str) -> (Token, usize) {
    let length = rest
        .find(|character: char| !character.is_ascii_alphanumeric() && character != '_')
        .unwrap_or(rest.len());
    (Token::Name(rest[..length].to_owned()), length)
}

fn number(rest: &str, at: usize) -> Result<(Token, usize), ParseError> {
    let bytes = rest.as_bytes();
    let belongs = |index: usize| match bytes[index] {
        b'+' | b'-' => matches!(bytes[index - 1], b'e' | b'E'),
        byte => byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_'),
    };
    let length = (1..bytes.len())
        .find(|&index| !belongs(index))
        .unwrap_or(bytes.len());
    let written = &rest[..length];
    let value = if written.bytes().all(|byte| byte.is_ascii_digit()) {
        // Wider than 64 bits stays text: types up to 256 bits take such defaults.
        written
            .parse()
            .map_or_else(|_| Value::Text(written.to_owned()), Value::Integer)
    } else {
        let parsed = written.parse().ok().filter(|float: &f64| float.is_finite());
        Value::Float(
            parsed.ok_or_else(|| ParseError::new(at, format!("`{written}` is not a number")))?,
        )
    };
    Ok((Token::Number(value), length))
}

fn symbol(rest: &str, first: char, at: usize) -> Result<(Token, usize), ParseError> {
    SYMBOLS
        .into_iter()
        .find(|symbol| rest.starts_with(symbol))
        .map(|symbol| (Token::Symbol(symbol), symbol.len()))
        .ok_or_else(|| {
            ParseError::new(at, format!("`{first}` is not supported in expressions"))
                .hint("expressions are made of calls, names, literals, comparisons, not, and, or")
        })
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    end: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |(at, _)| *at)
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Symbol(next)) if *next == symbol);
        self.next += usize::from(found);
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Name(next)) if next == word);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<(), ParseError> {
        if self.take_symbol(symbol) {
            return Ok(());
        }
        Err(self.unexpected(&format!("`{symbol}`")))
    }

    fn unexpected(&self, expected: &str) -> ParseError {
        let found = match self.peek() {
            None => "nothing".to_owned(),
            Some(Token::Name(name)) => format!("`{name}`"),
            Some(Token::Symbol(symbol)) => format!("`{symbol}`"),
            Some(Token::Number(_)) => "a number".to_owned(),
            Some(Token::Text(_)) => "a text".to_owned(),
        };
        ParseError::new(self.at(), format!("expected {expected}, found {found}"))
    }

    /// Runs a rule one level deeper.
    fn nested<T>(
        &mut self,
        rule: impl FnOnce(&mut Self) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        if self.depth == MAX_DEPTH {
            return Err(ParseError::new(
                self.at(),
                "this expression is nested too deep",
            ));
        }
        self.depth += 1;
        let result = rule(self);
        self.depth -= 1;
        result
    }

    fn or(&mut self) -> Result<Expression, ParseError> {
        self.chain("or", Self::and, ExpressionKind::Or)
    }

    fn and(&mut self) -> Result<Expression, ParseError> {
        self.chain("and", Self::not, ExpressionKind::And)
    }

    fn chain(
        &mut self,
        word: &str,
        part: fn(&mut Self) -> Result<Expression, ParseError>,
        make: fn(Vec<Expression>) -> ExpressionKind,
    ) -> Result<Expression, ParseError> {
        let first = part(self)?;
        let at = first.at;
        let mut parts = vec![first];
        while self.take_word(word) {
            parts.push(part(self)?);
        }
        if parts.len() == 1 {
            return Ok(parts.remove(0));
        }
        Ok(Expression {
            at,
            kind: make(parts),
        })
    }

    fn not(&mut self) -> Result<Expression, ParseError> {
        let at = self.at();
        if !self.take_word("not") {
            return self.comparison();
        }
        let negated = self.nested(Self::not)?;
        Ok(Expression {
            at,
            kind: ExpressionKind::Not(Box::new(negated)),
        })
    }

    fn comparison(&mut self) -> Result<Expression, ParseError> {
        let left = self.primary()?;
        let Some(operator) = self.operator() else {
            return Ok(left);
        };
        let right = Box::new(self.primary()?);
        let next = self.at();
        if self.operator().is_some() {
            return Err(
                ParseError::new(next, "a chain of comparisons is not supported")
                    .hint("join two comparisons with `and`"),
            );
        }
        let at = left.at;
        let left = Box::new(left);
        let kind = match operator {
            Operator::Compare(comparison) => ExpressionKind::Compare(left, comparison, right),
            Operator::In => ExpressionKind::In(left, right),
            Operator::NotIn => ExpressionKind::Not(Box::new(Expression {
                at,
                kind: ExpressionKind::In(left, right),
            })),
        };
        Ok(Expression { at, kind })
    }

    fn operator(&mut self) -> Option<Operator> {
        const OPERATORS: [(&str, Comparison); 6] = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<", Comparison::Less),
            ("<=", Comparison::LessOrEqual),
            (">", Comparison::Greater),
            (">=", Comparison::GreaterOrEqual),
        ];
        if self.take_word("in") {
            return Some(Operator::In);
        }
        let next = self.next;
        if self.take_word("not") {
            if self.take_word("in") {
                return Some(Operator::NotIn);
            }
            self.next = next;
        }
        let (_, comparison) = OPERATORS
            .into_iter()
            .find(|(symbol, _)| self.take_symbol(symbol))?;
        Some(Operator::Compare(comparison))
    }

    fn primary(&mut self) -> Result<Expression, ParseError> {
        let at = self.at();
        if self.take_symbol("(") {
            return self.nested(|parser| parser.parenthesized(at));
        }
        if self.take_symbol("[") {
            return self.nested(|parser| parser.list(at, "]", Vec::new()));
        }
        if self.take_symbol("-") {
            return self.negative(at);
        }
        let Some((_, token)) = self.tokens.get(self.next).cloned() else {
            return Err(self.unexpected("an expression"));
        };
        let kind = match token {
            Token::Number(value) => ExpressionKind::Literal(value),
            Token::Text(text) => ExpressionKind::Literal(Value::Text(text)),
            Token::Symbol(_) => return Err(self.unexpected("an expression")),
            Token::Name(name) => match name.as_str() {
                "True" | "true" => ExpressionKind::Literal(Value::Boolean(true)),
                "False" | "false" => ExpressionKind::Literal(Value::Boolean(false)),
                "None" => ExpressionKind::None,
                "and" | "or" | "not" | "in" | "if" | "else" | "is" | "lambda" | "for" => {
                    return Err(self.unexpected("an expression"));
                }
                _ => ExpressionKind::Name(name),
            },
        };
        self.next += 1;
        match kind {
            ExpressionKind::Name(function) if self.take_symbol("(") => {
                self.nested(|parser| parser.call(at, function))
            }
            kind => Ok(Expression { at, kind }),
        }
    }

    /// `(a)` is `a`; `(a, b)` and `()` are lists.
    fn parenthesized(&mut self, at: usize) -> Result<Expression, ParseError> {
        if self.take_symbol(")") {
            return Ok(list_of(at, Vec::new()));
        }
        let first = self.or()?;
        if self.take_symbol(")") {
            return Ok(first);
        }
        self.expect(",")?;
        self.list(at, ")", vec![first])
    }

    fn list(
        &mut self,
        at: usize,
        closing: &str,
        mut items: Vec<Expression>,
    ) -> Result<Expression, ParseError> {
        while !self.take_symbol(closing) {
            items.push(self.or()?);
            if !self.take_symbol(",") {
                self.expect(closing)?;
                break;
            }
        }
        Ok(list_of(at, items))
    }

    fn negative(&mut self, at: usize) -> Result<Expression, ParseError> {
        let value = match self.peek() {
            Some(Token::Number(Value::Integer(number))) => Value::Integer(-number),
            Some(Token::Number(Value::Float(number))) => Value::Float(-number),
            Some(Token::Number(Value::Text(number))) => Value::Text(format!("-{number}")),
            _ => return Err(self.unexpected("a number after `-`")),
        };
        self.next += 1;
        Ok(Expression {
            at,
            kind: ExpressionKind::Literal(value),
        })
    }

    /// The arguments of a call, after its opening parenthesis.
    fn call(&mut self, at: usize, function: String) -> Result<Expression, ParseError> {
        let mut call = Call {
            function,
            positional: Vec::new(),
            keywords: Vec::new(),
        };
        while !self.take_symbol(")") {
            self.argument(&mut call)?;
            if !self.take_symbol(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(Expression {
            at,
            kind: ExpressionKind::Call(call),
        })
    }

    fn argument(&mut self, call: &mut Call) -> Result<(), ParseError> {
        let at = self.at();
        let argument = self.or()?;
        if !self.take_symbol("=") {
            if !call.keywords.is_empty() {
                return Err(ParseError::new(
                    at,
                    "an argument without a name cannot follow one with a name",
                ));
            }
            call.positional.push(argument);
            return Ok(());
        }
        let ExpressionKind::Name(keyword) = argument.kind else {
            return Err(ParseError::new(at, "expected a name before `=`"));
        };
        if call.keywords.iter().any(|(known, _)| *known == keyword) {
            return Err(ParseError::new(at, format!("`{keyword}` is given twice")));
        }
        let value = self.or()?;
        call.keywords.push((keyword, value));
        Ok(())
    }
}

fn list_of(at: usize, items: Vec<Expression>) -> Expression {
    Expression {
        at,
        kind: ExpressionKind::List(items),
    }
}
