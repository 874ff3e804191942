-- A finished export that is made again: what it was before, until the new output is proven and has its place.
alter table export add column former_amount integer check (former_amount >= 0);
  -- fragments in the finished export that is made again, with fixed windows milliseconds of its videos; null where
  -- none is

-- Its files, which stand under their final names meanwhile and are replaced at the end.
create table former_output (
  export_id       text not null references export (id),
  role            text not null check (role in ('video', 'manifest', 'checksum')),
  part            integer not null check (part >= 1),            -- of several videos, from 1
  path            text not null,
  size_bytes      integer not null check (size_bytes >= 0),
  sha256          blob not null check (length(sha256) = 32),
  primary key (export_id, role, part)
) strict, without rowid;
