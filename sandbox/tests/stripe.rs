//! The stand-in for Stripe as its clients see it, over real HTTP.

mod stripe {
    mod api;
    mod badly;
    mod help;
    mod money;
    mod pages;
    mod webhooks;
}
