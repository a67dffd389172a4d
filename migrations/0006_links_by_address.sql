-- How many links were mailed lately, to an address and for an account: asked before another one is.

create index account_links_to on account_links (email, created_at);
create index account_links_by_user on account_links (user_id, created_at);
