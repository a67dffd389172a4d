//! What is secret stays so: on the way, in caches, in logs, at rest.

mod at_rest;
mod caching;
mod cors;
mod logs;
mod passes;
