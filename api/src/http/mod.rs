//! The few things that every route shares.
//!
//! A request passes, from the outside in: [`observe`] (request id, log, figures, security headers, [`caching`]), [`cors`],
//! compression, [`envelope`], [`errors`] (every failure becomes the one body), [`etag`], [`aliases`]. Then the
//! route: [`access`] finds out who is calling, [`address`] from where, [`allowed`] what they may do, [`body`] reads and
//! checks what they sent, [`answer`] is what they get, [`streams`] what they follow. [`document`] describes all of it, and [`described`] holds requests against it.

pub(crate) mod access;
pub mod address;
pub mod aliases;
pub mod allowed;
pub mod answer;
pub mod body;
pub mod caching;
pub mod cors;
pub mod described;
pub mod document;
pub mod envelope;
pub mod errors;
pub mod etag;
pub mod limits;
pub mod observe;
pub mod once;
mod rendered;
pub mod streams;
pub mod tags;
