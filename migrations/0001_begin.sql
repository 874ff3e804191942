-- The state file. Times are milliseconds since 1970 UTC (`_ms`), sizes are bytes (`_bytes`), states are the
-- words of the model's enums. Nothing here is a credential, a token or a URL of a session.

-- Marks the file as a state file of kvs-export ("KVSE"); a file without it is never touched.
pragma application_id = 1263948613;

-- One invocation that changed this file.
create table run (
  id              integer primary key,
  started_ms      integer not null,
  ended_ms        integer,                  -- null while it goes on, or after it was killed and until recovery
  pid             integer not null check (pid >= 0),
  host            text not null,
  tool_version    text not null,
  job_file        text,                     -- null for an export without a job file
  job_file_sha256 blob check (length(job_file_sha256) = 32),
  outcome         text,                     -- 'interrupted' also where recovery closed it
  exit_code       integer check (exit_code between 0 and 255),
  error           text,
  check ((ended_ms is null) = (outcome is null))
) strict;

create index run_open on run (id) where ended_ms is null;

-- One stream and one resolved range: one output.
create table export (
  seq             integer primary key,      -- order of creation; the cursor of listings
  id              text not null unique check (length(id) = 16),  -- hash of everything that decides output and path
  content_id      text not null,            -- the same hash without the output path
  resume_key      text not null,            -- hash of a job file's entry: raw texts, not what they resolved to
  stream_arn      text not null,
  start_ms        integer not null,         -- range asked for, half-open, on the selecting clock
  end_ms          integer not null,
  job             text not null,
  spec            text not null check (json_valid(spec)),        -- the resolved specification
  output_path     text not null,            -- absolute; parts put -partN before the extension
  output_key      text not null,            -- output_path in NFC and lower case, to find collisions
  state           text not null check (state in
                    ('planning', 'fetching', 'merging', 'done', 'partial', 'empty', 'failed')),
  superseded      integer not null default 0 check (superseded in (0, 1)),  -- its text left the job file unfinished
  created_ms      integer not null,
  updated_ms      integer not null,         -- last change of this row's state
  finished_ms     integer,                  -- when it became final
  run_id          integer references run (id),                   -- the run that last changed it
  error           text,                     -- why it failed
  warnings        text not null default '[]' check (json_valid(warnings)),  -- found while it was carried out
  manifest_path   text,
  -- Totals of the planned windows; final when windows_planned = windows_total.
  windows_total   integer not null check (windows_total >= 0),
  windows_planned integer not null default 0 check (windows_planned between 0 and windows_total),
  fragments       integer not null default 0 check (fragments >= 0),
  planned_bytes   integer not null default 0 check (planned_bytes >= 0),   -- as listed, not as fetched
  media_ms        integer not null default 0 check (media_ms >= 0),
  check (start_ms < end_ms),
  check ((finished_ms is not null) = (state in ('done', 'partial', 'empty')))
) strict;

create index export_by_content on export (content_id);
create index export_by_resume_key on export (resume_key);
create index export_by_output on export (output_key);
create index export_by_state on export (state);

-- An hour of listing, the unit of planning. Never changes once it is planned.
create table window (
  export_id       text not null references export (id),
  seq             integer not null check (seq >= 0),             -- order in time, from 0
  start_ms        integer not null,
  end_ms          integer not null,
  listed_at_ms    integer,                  -- null until it is planned
  fragment_count  integer not null default 0 check (fragment_count >= 0),  -- kept fragments
  dropped_count   integer not null default 0 check (dropped_count >= 0),   -- listed but left out, by a rule
  chunk_count     integer not null default 0 check (chunk_count >= 0),     -- as planned, before any split
  planned_bytes   integer not null default 0 check (planned_bytes >= 0),
  media_ms        integer not null default 0 check (media_ms >= 0),
  fragments       blob,                     -- kept and dropped fragments, compressed; last: it overflows its page
  primary key (export_id, seq),
  check (start_ms < end_ms),
  check ((listed_at_ms is null) = (fragments is null))
) strict;

-- One request's worth of a window's fragments.
create table chunk (
  id               integer primary key,
  export_id        text not null references export (id),
  window_seq       integer not null,
  first_fragment   integer not null check (first_fragment >= 0), -- index into the window's kept fragments
  fragment_count   integer not null check (fragment_count >= 0), -- 0 only where nothing was listed (fixed windows)
  request_start_ms integer not null,        -- both bounds inclusive, on the selecting clock
  request_end_ms   integer not null,
  planned_bytes    integer not null check (planned_bytes >= 0),
  state            text not null check (state in
                     ('planned', 'fetching', 'fetched', 'empty', 'rejected', 'expired', 'failed', 'split')),
  size_bytes       integer check (size_bytes >= 0),              -- of the file, as fetched
  sha256           blob check (length(sha256) = 32),             -- of the file, as fetched
  parent_id        integer references chunk (id),                -- the chunk that was split into this one
  error_code       text,                    -- the service's or this program's word for it
  error_detail     text,
  attempts         integer not null default 0 check (attempts >= 0),       -- requests that counted, over all runs
  request_id       text,                    -- of the last answer
  foreign key (export_id, window_seq) references window (export_id, seq),
  check (request_start_ms <= request_end_ms),
  check ((state = 'fetched') = (sha256 is not null)),
  check ((state = 'fetched') = (size_bytes is not null)),
  check ((state in ('rejected', 'expired', 'failed')) = (error_code is not null))
) strict;

-- A part and its whole never have equal bounds, so this also keeps a window from being planned twice.
create unique index chunk_in_order on chunk (export_id, window_seq, first_fragment, fragment_count);
create index chunk_to_fetch on chunk (export_id, window_seq, first_fragment) where state = 'planned';
create index chunk_in_hand on chunk (id) where state = 'fetching';
create index chunk_failed on chunk (export_id) where state = 'failed';
create index chunk_by_parent on chunk (parent_id) where parent_id is not null;

-- Sums over `chunk` by export and state, kept by the triggers below (I9 of design/lifecycle.md): status must not
-- read a million chunks.
create table chunk_count (
  export_id       text not null references export (id),
  state           text not null,
  chunks          integer not null check (chunks >= 0),
  fragments       integer not null check (fragments >= 0),
  planned_bytes   integer not null check (planned_bytes >= 0),
  size_bytes      integer not null check (size_bytes >= 0),
  primary key (export_id, state)
) strict, without rowid;

create trigger chunk_counted after insert on chunk begin
  insert into chunk_count (export_id, state, chunks, fragments, planned_bytes, size_bytes)
  values (new.export_id, new.state, 1, new.fragment_count, new.planned_bytes, coalesce(new.size_bytes, 0))
  on conflict (export_id, state) do update set
    chunks = chunks + 1,
    fragments = fragments + excluded.fragments,
    planned_bytes = planned_bytes + excluded.planned_bytes,
    size_bytes = size_bytes + excluded.size_bytes;
end;

create trigger chunk_uncounted after delete on chunk begin
  update chunk_count set
    chunks = chunks - 1,
    fragments = fragments - old.fragment_count,
    planned_bytes = planned_bytes - old.planned_bytes,
    size_bytes = size_bytes - coalesce(old.size_bytes, 0)
  where export_id = old.export_id and state = old.state;
end;

create trigger chunk_recounted after update of state, size_bytes, fragment_count, planned_bytes on chunk begin
  update chunk_count set
    chunks = chunks - 1,
    fragments = fragments - old.fragment_count,
    planned_bytes = planned_bytes - old.planned_bytes,
    size_bytes = size_bytes - coalesce(old.size_bytes, 0)
  where export_id = old.export_id and state = old.state;
  insert into chunk_count (export_id, state, chunks, fragments, planned_bytes, size_bytes)
  values (new.export_id, new.state, 1, new.fragment_count, new.planned_bytes, coalesce(new.size_bytes, 0))
  on conflict (export_id, state) do update set
    chunks = chunks + 1,
    fragments = fragments + excluded.fragments,
    planned_bytes = planned_bytes + excluded.planned_bytes,
    size_bytes = size_bytes + excluded.size_bytes;
end;

-- One request to the service: the audit trail.
create table attempt (
  id              integer primary key,
  run_id          integer not null references run (id),
  export_id       text not null references export (id),
  chunk_id        integer references chunk (id),                 -- null for listings
  api             text not null,
  started_ms      integer not null,
  duration_ms     integer not null check (duration_ms >= 0),
  outcome         text not null check (outcome in
                    ('succeeded', 'throttled', 'transient', 'permanent', 'auth', 'cancelled')),
  request_id      text,
  error           text,
  bytes           integer not null check (bytes >= 0)            -- media received, whole or not
) strict;

create index attempt_by_chunk on attempt (chunk_id) where chunk_id is not null;
create index attempt_by_export on attempt (export_id);

-- A file that stands, or is about to be renamed to stand, under its final name.
create table output (
  export_id       text not null references export (id),
  role            text not null check (role in ('video', 'manifest', 'checksum')),
  part            integer not null check (part >= 1),            -- of several videos, from 1
  path            text not null,
  size_bytes      integer not null check (size_bytes >= 0),
  sha256          blob not null check (length(sha256) = 32),
  primary key (export_id, role, part)
) strict, without rowid;
