-- What `plan` has listed and `run` need not list again. A copy of what the service said, of no use once its window is
-- planned: rows may vanish at any time, the window is listed again then.
create table listing (
  stream_arn      text not null,
  timestamps      text not null check (timestamps in ('server', 'producer')),  -- the clock that selected
  start_ms        integer not null,         -- the window, half-open; listed was more on either side
  end_ms          integer not null,
  listed_at_ms    integer not null,
  used            integer not null default 0 check (used in (0, 1)),  -- a run has planned a window from it
  fragments       blob not null,            -- everything listed, compressed; last: it overflows its page
  primary key (stream_arn, timestamps, start_ms, end_ms),
  check (start_ms < end_ms)
) strict;

create index listing_by_age on listing (listed_at_ms);
