//! SQL identifiers and literals, the pipe template language, dependency extraction.
