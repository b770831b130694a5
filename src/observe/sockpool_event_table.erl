%%% @private
%%% All events, once: what sockpool_events says of their severity, and what docs/observability.md says of them, which is
%%% compared with this.
-module(sockpool_event_table).

-export([rows/0, row/1, severity/2, severities/0, rank/1, is_rare/1]).
-export_type([row/0, severity/0, event/0]).

-type event() :: [atom(), ...].
-type severity() :: debug | info | notice | warning | error.
%% All metadata has `pool' and `node' besides. A pool's own, `count', `size' and `max_overflow', are those after it.
-type row() :: {event(), Measurements :: [atom()], Metadata :: [atom()], severity() | {severity(), Where :: atom(), severity()}}.

%% @doc `{Severity, Key, Else}': that one where the metadata has that key, which is then an error.
-spec rows() -> [row()].
rows() ->
    Pool = [count, size, max_overflow],
    [{[sockpool, pool, started], Pool, [reason], notice},
     {[sockpool, pool, ready], [duration | Pool], [], notice},
     {[sockpool, pool, stopped], Pool, [reason], notice},
     {[sockpool, pool, crashed], Pool, [reason], error},
     {[sockpool, pool, resized], Pool, [], notice},
     {[sockpool, pool, updated], Pool, [options], notice},
     {[sockpool, connect, stop], [duration, resolve, tcp, tls, init], [host, peer, transport, attempt, reused_session, error],
      {warning, error, debug}},
     {[sockpool, connection, closed], [age, uses, idle_time], [reason, peer, slot], debug},
     {[sockpool, connection, stalled], [unacked, retransmits, held], [peer, owner], warning},
     {[sockpool, lease, leak], [held], [owner, owner_name, stacktrace, peer], warning},
     {[sockpool, lease, unleaked], [held], [owner, peer], notice},
     {[sockpool, lease, revoked], [held], [owner, reason, peer], error},
     {[sockpool, queue, slow], [duration, waiting], [outcome], warning},
     {[sockpool, health, stop], [duration], [peer, result, error], {warning, error, debug}}].

-spec row(event()) -> row() | false.
row(Event) -> lists:keyfind(Event, 1, rows()).

%% @doc Also of one that is not in the table.
-spec severity(event(), map()) -> severity().
severity(Event, Metadata) ->
    case row(Event) of
        {_, _, _, {Severity, Key, _Else}} when is_map_key(Key, Metadata) -> Severity;
        {_, _, _, {_Severity, _Key, Else}} -> Else;
        {_, _, _, Severity} -> Severity;
        false -> info
    end.

%% @doc The mildest first.
-spec severities() -> [severity()].
severities() -> [debug, info, notice, warning, error].

-spec rank(severity()) -> 0..4.
rank(debug) -> 0;
rank(info) -> 1;
rank(notice) -> 2;
rank(warning) -> 3;
rank(error) -> 4.

%% @doc One that says something by itself, not one of thousands that say the same.
-spec is_rare(event()) -> boolean().
is_rare([sockpool, What, _]) -> not lists:member(What, [connect, queue, health]);
is_rare(_Event) -> true.
