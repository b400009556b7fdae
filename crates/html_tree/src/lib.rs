//! HTML as a browser parses it, within bounds, every text with its line.
//!
//! The grammar is html5ever's, the parser of Servo. This crate adds what a reader of hostile pages
//! needs around it: a tree in one arena that is dropped without recursion, bounds on depth, nodes and
//! attributes that are met as the page is read, and the source line of every piece of text.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod arena;
mod guard;
mod parse;
mod sink;
mod tag_scan;
mod walk;

pub use guard::{Limit, MAX_DEPTH};
pub use parse::{MAX_ATTRIBUTES, Page, parse};
pub use walk::{Cursor, Event};
