%%% @private
%%% What a pool's process, and those that work for it, tell of: see sockpool_event_table.
-module(sockpool_told).

-export([pool/5, connect/4, stalled/6, leak/6, unleaked/4, closed/5, revoked/4, health/4]).

-type name() :: sockpool_pool:id().
-type place() :: {inet:ip_address(), inet:port_number()} | {local, binary()} | undefined.

%% @doc Of the pool itself: its connections that are up, and its sizes, besides what is given.
-spec pool(Word :: atom(), name(), sockpool_opts:opts(), map(), map()) -> ok.
pool(Word, Name, #{size := Size, max_overflow := MaxOverflow}, Measurements, Metadata) ->
    sockpool_events:emit([sockpool, pool, Word], Measurements#{count => up(sockpool_pool:find(Name)), size => Size, max_overflow => MaxOverflow},
                         Metadata#{pool => Name}).

up(undefined) -> 0;
up(Pool) -> {_Name, Up, _Waiting, _SlowMs} = sockpool_nif:pool_look(Pool), Up.

%% @doc An attempt to connect is over. What is no attempt is not told.
-spec connect(ok | {error, term()}, sockpool_step:at(), name(), sockpool_opts:opts()) -> ok.
connect(Result, At, Name, Opts) ->
    case sockpool_step:number(At) of
        0 -> ok;
        Number -> attempt(Result, At, Number, Name, Opts)
    end.

attempt(ok, At, Number, Name, Opts) ->
    case sockpool_events:listens() of
        true -> attempted(At, Number, #{}, Name, Opts);
        false -> ok
    end;
attempt({error, Reason}, At, Number, Name, Opts) ->
    attempted(At, Number, #{error => Reason}, Name, Opts).

attempted(At, Number, Error, Name, #{transport := Transport} = Opts) ->
    sockpool_events:emit([sockpool, connect, stop], sockpool_step:times(At),
                         Error#{pool => Name, host => host(At, Number, Opts), peer => peer(At, Opts), transport => Transport,
                                attempt => Number, reused_session => sockpool_step:is_resumed(At)}).

%% Hosts are tried in turn, and each attempt begins with another one.
host(At, Number, #{transport := Of, host := Hosts}) when Of =:= tcp; Of =:= tls ->
    Tried = max(1, sockpool_step:hosts(At)),
    unicode:characters_to_binary(sockpool_host:text(lists:nth((Number + Tried - 2) rem length(Hosts) + 1, Hosts)));
host(_At, _Number, #{transport := node, node := Node}) ->
    {_Name, Host} = sockpool_option:split_node(Node),
    unicode:characters_to_binary(Host);
host(_At, _Number, _Opts) ->
    undefined.

peer(_At, #{transport := unix, path := Path}) -> {local, Path};
peer(At, _Opts) -> sockpool_step:place(At).

-spec stalled(name(), place(), pid() | undefined, non_neg_integer(), non_neg_integer(), HeldMs :: non_neg_integer()) -> ok.
stalled(Name, Peer, Owner, Unacked, Retransmits, HeldMs) ->
    sockpool_events:emit([sockpool, connection, stalled], #{unacked => Unacked, retransmits => Retransmits, held => native(HeldMs)},
                         #{pool => Name, peer => Peer, owner => Owner}).

-spec leak(name(), pid(), RegisteredName :: atom(), Stack :: list(), place(), HeldMs :: non_neg_integer()) -> ok.
leak(Name, Owner, Registered, Stack, Peer, HeldMs) ->
    sockpool_events:emit([sockpool, lease, leak], #{held => native(HeldMs)},
                         #{pool => Name, owner => Owner, owner_name => Registered, stacktrace => Stack, peer => Peer}).

-spec unleaked(name(), pid(), place(), HeldMs :: non_neg_integer()) -> ok.
unleaked(Name, Owner, Peer, HeldMs) ->
    sockpool_events:emit([sockpool, lease, unleaked], #{held => native(HeldMs)}, #{pool => Name, owner => Owner, peer => Peer}).

%% @doc A connection that was usable.
-spec closed(name(), Slot :: non_neg_integer(), Why :: atom(),
             {AgeNs :: non_neg_integer(), IdleNs :: non_neg_integer(), Uses :: non_neg_integer()}, place()) -> ok.
closed(Name, Slot, Why, {AgeNs, IdleNs, Uses}, Peer) ->
    sockpool_events:emit([sockpool, connection, closed],
                         #{age => erlang:convert_time_unit(AgeNs, nanosecond, native), uses => Uses,
                           idle_time => erlang:convert_time_unit(IdleNs, nanosecond, native)},
                         #{pool => Name, reason => Why, peer => Peer, slot => Slot}).

%% @doc Nobody else takes a lease from its owner.
-spec revoked(name(), pid(), place(), HeldMs :: non_neg_integer()) -> ok.
revoked(Name, Owner, Peer, HeldMs) ->
    sockpool_events:emit([sockpool, lease, revoked], #{held => native(HeldMs)},
                         #{pool => Name, owner => Owner, reason => max_hold, peer => Peer}).

%% @doc Of a check of an idle connection. What could not be made is no check.
-spec health(ok | {error, term()}, Began :: integer(), place(), name()) -> ok.
health({error, badfun}, _Began, _Peer, _Name) ->
    ok;
health(Result, Began, Peer, Name) ->
    Metadata = case Result of
                   ok -> #{result => ok};
                   {error, Reason} -> #{result => failed, error => Reason}
               end,
    sockpool_events:emit([sockpool, health, stop], #{duration => erlang:monotonic_time() - Began}, Metadata#{pool => Name, peer => Peer}).

%% As Telemetry has times.
native(Ms) -> erlang:convert_time_unit(Ms, millisecond, native).
