//! The edge of the product: who is calling, and what a caller may take of it.

mod addresses;
mod connections;
mod listeners;
mod roles;
mod streams;
