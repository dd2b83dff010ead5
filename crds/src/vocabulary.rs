//! Words that users read in statuses and events, each with what it means for the reference.

/// Makes an enum of words: how each is written, what it means, and all of them.
macro_rules! vocabulary {
    ($(#[doc = $about:literal])+ $vocabulary:ident: $($(#[doc = $doc:literal])+ $name:ident),+ $(,)?) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $vocabulary { $($(#[doc = $doc])+ $name),+ }

        impl $vocabulary {
            /// Every word, in the order of the reference.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The word as users read it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }

            /// What it means, for the reference.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii()),+ }
            }
        }
    };
}

pub(crate) use vocabulary;
