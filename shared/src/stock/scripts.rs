//! The scripts, each one round trip.

use std::sync::LazyLock;

use redis::Script;

macro_rules! scripts {
    ($($name:ident $file:literal),+ $(,)?) => {$(
        pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!(include_str!("prelude.lua"), include_str!($file))));
    )+};
}

scripts! {
    PLACE "place.lua",
    LOOK "look.lua",
    RELEASE "release.lua",
    EXTEND "extend.lua",
    ATTACH "attach.lua",
    SETTLE "settle.lua",
    READ "read.lua",
    RESTORE "restore.lua",
}
