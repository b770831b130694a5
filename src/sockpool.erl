%%% @doc A connection pool whose data plane is C.
%%%
%%% A pool keeps `size' connections to one server open, and up to `max_overflow' more while they are
%%% needed. A process checks a connection out, does its I/O itself, and checks it in:
%%%
%%% ```
%%% ok = sockpool:start_pool(cache, #{host => "127.0.0.1", port => 6379, packet => line}),
%%% {ok, Conn} = sockpool:checkout(cache),
%%% ok = sockpool:send(Conn, "PING\r\n"),
%%% {ok, <<"+PONG\r\n">>} = sockpool:recv(Conn, 0),
%%% ok = sockpool:checkin(Conn).
%%% '''
%%%
%%% or has it all done in one call, which is also the fastest:
%%%
%%% ```
%%% {ok, <<"+PONG\r\n">>} = sockpool:request(cache, "PING\r\n", packet, 1000).
%%% '''
%%%
%%% A connection belongs to the process that checked it out until `checkin/1', `discard/1' or
%%% `give_away/2'. When that process dies, or loses the handle, the pool takes the connection back: an
%%% unused one goes to the next process, a used one is closed and replaced.
%%%
%%% A pool is named by an atom, or by `{Name, Node}' where another node of the cluster serves it: a C
%%% node, or an Erlang node on which sockpool runs. The functions are the same. What is sent and
%%% received then crosses the distribution, and a connection belongs to a process of any node.
%%%
%%% Times are milliseconds; `infinity' waits for ever and 0 never waits. Every function returns
%%% `{error, Reason}' for what can go wrong at run time. docs/reference.md says what each reason()
%%% means and what to do, and format_error/1 says it in words.
-module(sockpool).

-export([start_link/1, start_link/2, child_spec/1, child_spec/2, unnamed/0, start_pool/1, start_pool/2, stop_pool/1, reload_tls/1]).
-export([update/2, resize/3, await_ready/1, await_ready/2]).
-export([subscribe/1, subscribe/2, unsubscribe/1]).
-export([which_pools/0, which_pools/1, stats/0, stats/1, node_stats/1, histograms/1, explain/1, top/0, top/1]).
-export([checkout/1, checkout/2, leased/2, checkin/1, checkin/2, discard/1, discard_after_exception/1, give_away/2]).
-export([worker/1, transaction/2, transaction/3, execute/2, execute/3]).
-export([send/2, send/3, recv/2, recv/3, recv_until/3, request/4, request_many/4]).
-export([call/5, send_to/3, send_to/4]).
-export([starttls/2, starttls/3, state/1, set_state/2]).
-export([info/1, peername/1, sockname/1, setopts/2, format_error/1]).
-export_type([subscription/0]).
-export_type([conn/0, pool/0, unnamed/0, options/0, reason/0, last/0, stats/0, histograms/0, finding/0, address/0]).

-include_lib("kernel/include/logger.hrl").
-include("sockpool_lease.hrl").

-type pool() :: atom() | {Name :: atom(), node()} | unnamed().
%% A pool of this node, or of the node that serves it.

-opaque unnamed() :: sockpool_nif:pool().
%% A pool of this node that has no name: see unnamed/0.

-type options() :: sockpool_option_table:options().
%% A map, or a list of `{Key, Value}', in which the first of two with the same key counts. `nil' means that
%% the option is not given. docs/reference.md says what each is.

-opaque conn() :: sockpool_nif:lease() | sockpool_remote:lease() | sockpool_node_conn:conn().
%% A connection in the hands of the process that checked it out.

-type reason() :: sockpool_error:reason().
-type last() :: sockpool_error:last().
%% Why connecting fails.

-type stats() :: sockpool_pool:stats().

-type histograms() :: sockpool_pool:histograms().

-opaque subscription() :: reference().

-type finding() :: sockpool_verdict:finding().
%% Severities are `ok', `notice', `warning' and `error'.

-type address() :: {inet:ip_address(), inet:port_number()} | {local, binary()}.

-define(IS_TIMEOUT(T),
        (T =:= infinity orelse (is_integer(T) andalso T >= 0 andalso T =< 16#ffffffff))).
-define(IS_NAME(N), (is_atom(N) andalso N =/= undefined)).
-define(IS_HERE(P), (?IS_NAME(P) orelse is_reference(P))).
-define(IS_LENGTH(L), (is_integer(L) andalso L >= 0 andalso L =< 16#ffffffffffffffff)).
-define(DEFAULT_TIMEOUT_MS, 5000).
%% How often a check-out lets others run before it queues; see sp_pool_crowded().
-define(YIELDS, 3).

%%% Pools.

%% @doc Starts a pool linked to the caller, for the user's own supervisor; see child_spec/2. What is wrong
%% with the options is in the log, too, as a sentence: the supervisor's report has only the term.
-spec start_link(atom() | unnamed(), options()) -> {ok, pid()} | {error, term()}.
start_link(Name, Opts) when ?IS_HERE(Name) ->
    case is_pool(Name) andalso sockpool_opts:parse(Name, Opts) of
        false ->
            no_pool(Name);
        {ok, Parsed} ->
            sockpool_pool:start_link(Name, Parsed);
        {error, Bad} = Error ->
            ?LOG_ERROR("sockpool pool ~0tp does not start: ~ts", [Name, sockpool_opts:format_error(Bad)]),
            Error
    end;
start_link(Name, _Opts) ->
    no_pool(Name).

%% @doc As start_link/2, with the name among the options.
-spec start_link(options()) -> {ok, pid()} | {error, term()}.
start_link(Opts) ->
    case sockpool_opts:given(Opts) of
        {ok, #{name := Name}} -> start_link(Name, Opts);
        {ok, _} -> {error, {bad_option, name, undefined}};
        {error, _} = Error -> Error
    end.

%% @doc As child_spec/2, with the name among the options. So a supervisor of Elixir has a pool as a child:
%% `{:sockpool, name: :cache, host: "127.0.0.1", port: 6379}'.
-spec child_spec(options()) -> supervisor:child_spec().
child_spec(Opts) ->
    Sealed = sockpool_opts:seal(Opts),
    Name = case Sealed of #{name := Given} -> Given; _ -> undefined end,
    (child_spec(Name, Opts))#{start := {?MODULE, start_link, [Sealed]}}.

%% @doc A child specification for the user's own supervisor.
%%
%% ```
%% init([]) ->
%%     Opts = #{host => "127.0.0.1", port => 6379},
%%     {ok, {#{strategy => one_for_one}, [sockpool:child_spec(cache, Opts)]}}.
%% '''
-spec child_spec(atom() | unnamed(), options()) -> supervisor:child_spec().
child_spec(Name, Opts) ->
    Sealed = sockpool_opts:seal(Opts),
    #{id => {sockpool, Name}, start => {?MODULE, start_link, [Name, Sealed]}, shutdown => sockpool_opts:stop_ms(Sealed)}.

%% @doc A pool without a name, not started yet. It goes wherever a name goes, on this node: start_link/2, child_spec/2,
%% start_pool/2, and then checkout/1 and all others; which_pools/0 and stats/0 leave it out, and no other node can use it. What is left of
%% it when it is stopped is freed with the last reference, so they can come and go in any number.
-spec unnamed() -> unnamed().
unnamed() ->
    sockpool_pool:new().

%% @doc As start_pool/2, of a new pool without a name, which is to be stopped by stop_pool/1; or of the name among the options.
%%
%% ```
%% {ok, Pool} = sockpool:start_pool(#{host => "127.0.0.1", port => 6379, packet => line}),
%% {ok, <<"+PONG\r\n">>} = sockpool:request(Pool, "PING\r\n", packet, 1000),
%% ok = sockpool:stop_pool(Pool).
%% '''
-spec start_pool(options()) -> {ok, pool()} | {error, reason() | term()}.
start_pool(Opts) ->
    case sockpool_opts:given(Opts) of
        {ok, #{name := Name}} -> started(Name, start_pool(Name, Opts));
        {ok, _} -> start_unnamed(unnamed(), Opts);
        {error, _} = Error -> Error
    end.

start_unnamed(Pool, Opts) -> started(Pool, start_pool(Pool, Opts)).

started(Pool, ok) -> {ok, Pool};
started(_Pool, {error, _} = Error) -> Error.

%% @doc Starts a pool under sockpool's own supervisor, which starts it again for ever where it crashes. It
%% starts whether or not its server can be reached: connecting goes on in the background. Where it is
%% stopped meanwhile, `{error, draining}'.
%%
%% `{Name, Node}' starts it on that node. Paths in the options are of that node, and funs must be of the
%% form `fun Module:Function/Arity' and exported there.
-spec start_pool(pool(), options()) -> ok | {error, reason() | term()}.
start_pool(Pool, Opts) ->
    case place(Pool) of
        {here, Name} -> start_here(Name, sockpool_opts:parse(Name, Opts));
        {there, Name, Node} -> start_there(Name, Node, sockpool_opts:given(Opts));
        nowhere -> bad_argument(pool, Pool)
    end.

start_here(Name, {ok, Opts}) ->
    case sockpool_sup:start_pool(Name, Opts) of
        {ok, _Pid} -> ok;
        {error, _} = Error -> Error
    end;
start_here(_Name, {error, _} = Error) ->
    Error.

%% The time of `start' is kept here: a node in C has nobody wait, and one that is silent does not hold up anybody for longer.
start_there(Name, Node, {ok, Opts}) ->
    case sockpool_opts:start(Opts) of
        {ok, async} -> sockpool_remote:start_pool(Node, Name, Opts);
        {ok, {await, Count, Ms}} -> started_there(Name, Node, Count, Ms, sockpool_remote:start_pool(Node, Name, maps:remove(start, Opts)));
        {error, _} = Error -> Error
    end;
start_there(_Name, _Node, {error, _} = Error) -> Error.

started_there(Name, Node, Count, Ms, ok) ->
    _ = case sockpool_remote:await_ready(Node, Name, Count, Ms) of
            ok ->
                ok;
            {error, Reason} ->
                ?LOG_WARNING("sockpool ~tp of ~tp: started, but ~tp of its connections are not up in time: ~ts",
                             [Name, Node, Count, format_error(Reason)])
        end,
    ok;
started_there(_Name, _Node, _Count, _Ms, {error, _} = Error) ->
    Error.

%% @equiv await_ready(Pool, #{})
-spec await_ready(pool()) -> ok | {error, reason()}.
await_ready(Pool) -> await_ready(Pool, #{}).

%% @doc Waits until so many connections of the pool are up, idle or in use: `count' of them, by default 1, or `size', for as long
%% as `timeout', by default the pool's `checkout_timeout'. Not so many in time: `{error, {unavailable, Last}}' where connecting
%% fails, else `{error, timeout}'. It opens none by itself: more than `size', or `min_idle', are up only where somebody needs them.
-spec await_ready(pool(), #{count => pos_integer() | size, timeout => timeout()} | [{atom(), term()}]) -> ok | {error, reason()}.
await_ready(Pool, Opts) ->
    case sockpool_given:map(Opts, [count, timeout]) of
        {ok, Given} -> await_so_many(Pool, maps:get(count, Given, 1), maps:get(timeout, Given, default), maps:without([count, timeout], Given));
        error -> bad_argument(opts, Opts)
    end.

await_so_many(_Pool, _Count, _Timeout, Unknown) when map_size(Unknown) > 0 ->
    bad_argument(opts, Unknown);
await_so_many(_Pool, Count, _Timeout, _) when Count =/= size, not (is_integer(Count) andalso Count >= 1 andalso Count =< 16#ffffffff) ->
    bad_argument(count, Count);
await_so_many(_Pool, _Count, Timeout, _) when Timeout =/= default, not ?IS_TIMEOUT(Timeout) ->
    bad_argument(timeout, Timeout);
await_so_many(Pool, Count, Timeout, _) ->
    case place(Pool) of
        {here, Name} -> sockpool_pool:await_ready(Name, Count, Timeout);
        {there, Name, Node} -> sockpool_remote:await_ready(Node, Name, Count, Timeout);
        nowhere -> bad_argument(pool, Pool)
    end.

%% @doc Stops a pool that start_pool/2 or the application environment started. Waiters get
%% `{error, draining}', holders of its connections `{error, closed}'. A pool in the user's own
%% supervisor is stopped there: for it this is `{error, not_found}'.
-spec stop_pool(pool()) -> ok | {error, not_found | term()}.
stop_pool(Pool) ->
    case place(Pool) of
        {here, Name} -> sockpool_sup:stop_pool(Name);
        {there, Name, Node} -> sockpool_remote:stop_pool(Node, Name);
        nowhere -> bad_argument(pool, Pool)
    end.

%% @doc Changes options of a pool while it runs: those that are given, the others stay. What a connection is made of
%% and where it goes cannot change: for `name', `transport', `host', `port', `path', `worker', `worker_shutdown',
%% `packet', `pipeline', `recv_limit', `tls', `node', `cookie', `start', and the `validate' of workers, it is
%% `{error, {needs_restart, Key}}', and nothing changes.
%%
%% Nobody loses a connection that he has: where there are more than the new size, idle ones are closed at once,
%% the longest idle first; where there are more than size and overflow together, others at their check-in. What concerns how a
%% connection is made, such as `init' or `sndbuf', holds for those that are made from now on. A change outlives a crash of the
%% pool's process, but not a stop: a pool that is started again has the options that it is started with.
-spec update(pool(), options()) -> ok | {error, reason()}.
update(Pool, Options) ->
    case place(Pool) of
        {here, Name} -> sockpool_pool:update(Name, Options);
        {there, Name, Node} -> update_there(Name, Node, sockpool_opts:given(Options));
        nowhere -> bad_argument(pool, Pool)
    end.

update_there(Name, Node, {ok, Options}) -> sockpool_remote:update(Node, Name, Options);
update_there(_Name, _Node, {error, _} = Error) -> Error.

%% @equiv update(Pool, #{size => Size, max_overflow => MaxOverflow})
-spec resize(pool(), Size :: non_neg_integer(), MaxOverflow :: non_neg_integer()) -> ok | {error, reason()}.
resize(Pool, Size, MaxOverflow) ->
    update(Pool, #{size => Size, max_overflow => MaxOverflow}).

%% @doc The names of the pools that run on this node.
-spec which_pools() -> {ok, [atom()]}.
which_pools() ->
    {ok, sockpool_pool:names()}.

%% @doc The names of the pools that the node serves.
-spec which_pools(node()) -> {ok, [atom()]} | {error, term()}.
which_pools(Node) when Node =:= node() ->
    which_pools();
which_pools(Node) when is_atom(Node) ->
    sockpool_remote:which_pools(Node);
which_pools(Node) ->
    bad_argument(node, Node).

%% @doc Gauges and counters of every pool on this node.
-spec stats() -> {ok, [stats()]}.
stats() ->
    {ok, [Stats || Name <- sockpool_pool:names(), {ok, Stats} <- [stats(Name)]]}.

%% @doc Gauges and counters of every pool that the node serves.
-spec node_stats(node()) -> {ok, [stats()]} | {error, term()}.
node_stats(Node) when Node =:= node() ->
    stats();
node_stats(Node) when is_atom(Node) ->
    sockpool_remote:stats(Node);
node_stats(Node) ->
    bad_argument(node, Node).

%% @doc Gauges (size, max_overflow, total, idle, leased, connecting, waiting, oldest_wait) and counters since the
%% pool was started, or before its process crashed (checkouts, checkins, created, reused, closed, abandoned, leaked, waited, timeouts, exhausted, pipelined,
%% health_ok, health_failed, deferred, connect_attempts, connect_failures); closed_by, connect_failed_by and errors say for which reasons. While no call is under way, idle + leased + connecting =
%% total. last_error is why the last attempt that failed did, last_error_at when, in milliseconds as of
%% `erlang:system_time(millisecond)'; both are undefined where none has.
-spec stats(pool()) -> {ok, stats()} | {error, reason()}.
stats(Pool) ->
    case place(Pool) of
        {here, Name} -> sockpool_pool:stats(Name);
        {there, Name, Node} -> sockpool_remote:stats(Node, Name);
        nowhere -> bad_argument(pool, Pool)
    end.

%% @doc How long things took, since when the pool's counters count, as histograms: leases that their owners ended (`use'), waits of
%% those who got a connection (`wait', with those who did not have to wait), attempts to connect that worked and their parts
%% (`connect'), how long connections were idle before they were used again (`idle'), and how old they were when they were closed (`age').
%% Times are microseconds; what the lists mean is said in docs/reference.md.
-spec histograms(pool()) -> {ok, histograms()} | {error, reason()}.
histograms(Pool) ->
    case place(Pool) of
        {here, Name} -> sockpool_pool:histograms(Name);
        {there, Name, Node} -> sockpool_remote:histograms(Node, Name);
        nowhere -> bad_argument(pool, Pool)
    end.

%%% Events.

%% @equiv subscribe(What, self())
-spec subscribe(pool() | sockpool_events:filter()) -> {ok, subscription()} | {error, reason()}.
subscribe(What) -> subscribe(What, self()).

%% @doc Sends the process what happens in a pool of this node, or in all of them: `{sockpool_event, Event, Measurements,
%% Metadata}'. docs/observability.md says which events there are. `What' is a pool, or a map: `pool', where it is to be
%% of one only; `severity', from which on (`debug', `info', `notice', `warning' or `error'); `events', a list of names, or of
%% what these begin with. So `#{}' is all of this node. It ends by unsubscribe/1, or with the process.
%%
%% Nobody waits for a subscriber. While more than 1,000 messages are in its queue it gets no events; after that it is told
%% how many these were, by the event `[sockpool, events, dropped]'.
-spec subscribe(pool() | sockpool_events:filter(), pid()) -> {ok, subscription()} | {error, reason()}.
subscribe(What, Pid) when is_map(What), is_pid(Pid) ->
    case sockpool_events:filter(What) of
        {ok, Filter} -> sockpool_events:subscribe(Pid, Filter);
        error -> bad_argument(what, What)
    end;
subscribe(Pool, Pid) when is_pid(Pid) ->
    case place(Pool) of
        {here, Name} -> sockpool_events:subscribe(Pid, #{pool => Name});
        {there, _, _} -> bad_argument(local_pool, Pool);
        nowhere -> bad_argument(pool, Pool)
    end;
subscribe(_What, Pid) ->
    bad_argument(pid, Pid).

%% @doc No event comes after that.
-spec unsubscribe(subscription()) -> ok | {error, reason()}.
unsubscribe(Subscription) when is_reference(Subscription) -> sockpool_events:unsubscribe(Subscription);
unsubscribe(Other) -> bad_argument(subscription, Other).

%% @doc What is wrong with the pool, in words: it looks at the pool twice, a second apart, and says what it has found, the worst
%% first. Never nothing: a pool with which nothing is wrong has the one finding `healthy', of the severity `ok'. docs/observability.md has the
%% causes, and what to do.
%%
%% ```
%% 1> {ok, [#{text := Text} | _]} = sockpool:explain(cache), io:format("~ts~n", [Text]).
%% cache (10.0.0.7:6379): the server is slow: a lease takes 1.8 s, and took 20 ms before; 20 of 20 connections are in use; 14 wait, the first for 2.3 s
%% '''
-spec explain(pool()) -> {ok, [finding(), ...]} | {error, reason()}.
explain(Pool) ->
    case place(Pool) of
        {here, Name} -> sockpool_verdict:explain(Name);
        {there, _, _} -> sockpool_verdict:explain(Pool);
        nowhere -> bad_argument(pool, Pool)
    end.

%% @equiv top(#{})
-spec top() -> ok | {error, reason()}.
top() -> top(#{}).

%% @doc For a shell: a table of the pools that run, drawn anew every `interval' milliseconds (1000), sorted by `sort' (`name', `in_use',
%% `waiting', `oldest', `rate' or `errors'), of this node or `node'. A line `q' ends it, a number shows that pool's detail.
-spec top(sockpool_top:options() | [{atom(), term()}]) -> ok | {error, reason()}.
top(Opts) -> sockpool_top:run(Opts).

%% @doc Reads the certificates, keys and trusted certificates of a pool with `transport => tls' again,
%% and asks its password fun again. Connections made from now on use them; those that are open stay
%% as they are. Where the new files are of no use, `{error, {tls, {Option, Why}}}', and nothing
%% changes. Only for pools of this node.
-spec reload_tls(pool()) -> ok | {error, reason()}.
reload_tls(Pool) ->
    case place(Pool) of
        {here, Name} -> sockpool_pool:reload_tls(Name);
        {there, _, _} -> bad_argument(local_pool, Pool);
        nowhere -> bad_argument(pool, Pool)
    end.

%%% Leases.

%% @equiv checkout(Name, CheckoutTimeout)
-spec checkout(pool()) -> {ok, conn()} | {error, reason()}.
checkout(Name) ->
    do_checkout(Name, default).

%% @doc Takes a connection for the calling process. With the time-out 0 it takes an idle one or
%% returns `{error, full}'. The default is the pool's `checkout_timeout'.
-spec checkout(pool(), timeout()) -> {ok, conn()} | {error, reason()}.
checkout(Name, Timeout) when ?IS_TIMEOUT(Timeout) ->
    do_checkout(Name, Timeout);
checkout(_Name, Timeout) ->
    bad_argument(timeout, Timeout).

do_checkout(Name, Timeout) ->
    case leased(Name, Timeout, ?YIELDS) of
        {worker, Lease, _Pid} -> {ok, Lease};
        {node, Lease} -> sockpool_node_conn:start(Lease);
        Result -> Result
    end.

%% @private
%% As checkout/2, with the worker where the pool is one of workers.
-spec leased(pool(), timeout() | default) -> {worker, conn(), pid()} | {ok | node, conn()} | {error, reason()}.
leased(Name, Timeout) when Timeout =:= default; ?IS_TIMEOUT(Timeout) ->
    leased(Name, Timeout, ?YIELDS);
leased(_Name, Timeout) ->
    bad_argument(timeout, Timeout).

leased(Pool, Timeout, Yields) when is_reference(Pool) ->
    case kind(Pool) of
        undefined -> no_pool(Pool);
        _ -> leased_of(Pool, Pool, Timeout, Yields)
    end;
leased(Name, Timeout, Yields) ->
    case persistent_term:get({sockpool, Name}, undefined) of
        undefined ->
            checkout_elsewhere(Name, Timeout);
        {piped, Pool} ->
            leased_of(Pool, Name, Timeout, Yields);
        Pool ->
            leased_of(Pool, Name, Timeout, Yields)
    end.

leased_of(Pool, Name, Timeout, Yields) ->
    case sockpool_nif:checkout(Pool) of
        again ->
            leased(Name, Timeout, Yields);
        crowded when Yields > 0, Timeout =/= 0 ->
            erlang:yield(),
            leased(Name, Timeout, Yields - 1);
        Empty when Empty =:= empty; Empty =:= crowded ->
            sockpool_wait:checkout(Pool, Timeout);
        {check, Lease, Pid} ->
            sockpool_wait:checked(Pool, Lease, Pid, Timeout);
        Result ->
            Result
    end.

%% No pool has a name that is a tuple, so that pools of this node do not pay for the others.
checkout_elsewhere({Name, Node}, Timeout) when ?IS_NAME(Name), Node =:= node() ->
    leased(Name, Timeout, ?YIELDS);
checkout_elsewhere({Name, Node}, Timeout) when ?IS_NAME(Name), is_atom(Node) ->
    sockpool_remote:checkout(Node, Name, Timeout);
checkout_elsewhere(Name, _Timeout) ->
    no_pool(Name).

%% @doc The process that is the connection, where the pool has `transport => worker'. Keep the connection as long as you
%% use the process: a check-out whose connection nobody has any more is over.
-spec worker(conn()) -> pid() | {error, reason()}.
worker(?LEASE(_) = Lease) ->
    sockpool_remote:worker(Lease);
worker(?NODE_CONN(_)) ->
    {error, {bad_option, transport, node}};
worker(Conn) ->
    conn_error(sockpool_nif:worker(Conn), Conn).

%% @doc Gives the connection back. One that a receive time-out, an I/O error or unread bytes have left
%% in an unknown state is closed and replaced, and so is one on which nothing was received since the last
%% send, whose reply may still come, unless the pool has `replies => false'; the options that setopts/2 changed are
%% restored.
%%
%% Give it back at a boundary of its protocol: a further reply that is still to come would reach the next
%% user. Where that is not known, use discard/1.
-spec checkin(conn()) -> ok | {error, reason()}.
checkin(?LEASE(_) = Lease) ->
    sockpool_remote:checkin(Lease);
checkin(?NODE_CONN(_) = Conn) ->
    sockpool_node_conn:checkin(Conn);
checkin(Conn) ->
    case sockpool_nif:checkin(Conn) of
        ok -> ok;
        Other -> conn_error(Other, Conn)
    end.

%% @doc As checkin/1, of a connection that is known to be at a boundary: what was sent last is not answered.
-spec checkin(conn(), clean) -> ok | {error, reason()}.
checkin(?LEASE(_) = Lease, clean) ->
    sockpool_remote:checkin_clean(Lease);
checkin(?NODE_CONN(_) = Conn, clean) ->
    sockpool_node_conn:checkin(Conn);
checkin(Conn, clean) ->
    conn_error(sockpool_nif:checkin_clean(Conn), Conn);
checkin(_Conn, How) ->
    bad_argument(how, How).

%% @doc Gives the connection back to be closed and replaced.
-spec discard(conn()) -> ok | {error, reason()}.
discard(?LEASE(_) = Lease) ->
    sockpool_remote:discard(Lease);
discard(?NODE_CONN(_) = Conn) ->
    sockpool_node_conn:discard(Conn);
discard(Conn) ->
    conn_error(sockpool_nif:discard(Conn, discarded), Conn).

%% @private
-spec discard_after_exception(conn()) -> ok | not_a_conn | {error, reason()}.
discard_after_exception(?LEASE(_) = Lease) ->
    sockpool_remote:discard_after_exception(Lease);
discard_after_exception(?NODE_CONN(_) = Conn) ->
    sockpool_node_conn:discard(Conn, exception);
discard_after_exception(Conn) ->
    sockpool_nif:discard(Conn, exception).

%% @doc Makes another process of this node the owner of the connection; of a connection of another
%% node's pool, a process of any node. `{error, noproc}' where it is dead. (Of a dead process that runs
%% on neither of the two nodes this is not known: the pool takes the connection back at once.)
-spec give_away(conn(), pid()) -> ok | {error, reason()}.
give_away(?LEASE(_) = Lease, Pid) when is_pid(Pid) ->
    sockpool_remote:give_away(Lease, Pid);
give_away(?NODE_CONN(_) = Conn, Pid) when is_pid(Pid), node(Pid) =:= node() ->
    sockpool_node_conn:give_away(Conn, Pid);
give_away(Conn, Pid) when is_pid(Pid), node(Pid) =:= node() ->
    conn_error(sockpool_nif:give_away(Conn, Pid), Conn);
give_away(_Conn, Pid) ->
    bad_argument(pid, Pid).

%% @equiv transaction(Name, Fun, CheckoutTimeout)
-spec transaction(pool(), fun((conn() | pid()) -> Result)) -> Result.
transaction(Name, Fun) ->
    in_transaction(leased(Name, default, ?YIELDS), Fun).

%% @doc Runs the fun with a connection, or with the worker's pid where the pool is one of workers, and returns what it
%% returns. Raises the error `{checkout,
%% Reason}' where no connection could be had. When the fun raises, the connection is closed and the
%% exception goes on.
-spec transaction(pool(), fun((conn() | pid()) -> Result), timeout()) -> Result.
transaction(Name, Fun, Timeout) when ?IS_TIMEOUT(Timeout) ->
    in_transaction(leased(Name, Timeout, ?YIELDS), Fun);
transaction(_Name, _Fun, Timeout) ->
    {error, Reason} = bad_argument(timeout, Timeout),
    error({checkout, Reason}).

in_transaction({ok, Conn}, Fun) ->
    run(Conn, Conn, Fun);
in_transaction({worker, Lease, Pid}, Fun) ->
    run(Lease, Pid, Fun);
in_transaction({node, Lease}, Fun) ->
    in_transaction(sockpool_node_conn:start(Lease), Fun);
in_transaction({error, Reason}, _Fun) ->
    error({checkout, Reason}).

%% @equiv execute(Name, Fun, CheckoutTimeout)
-spec execute(pool(), fun((conn() | pid()) -> Result)) -> {ok, Result} | {error, reason()}.
execute(Name, Fun) ->
    executed(leased(Name, default, ?YIELDS), Fun).

%% @doc As transaction/3, but `{ok, Result}', or `{error, Reason}' where no connection could be had.
-spec execute(pool(), fun((conn() | pid()) -> Result), timeout()) -> {ok, Result} | {error, reason()}.
execute(Name, Fun, Timeout) when ?IS_TIMEOUT(Timeout) ->
    executed(leased(Name, Timeout, ?YIELDS), Fun);
execute(_Name, _Fun, Timeout) ->
    bad_argument(timeout, Timeout).

executed({ok, Conn}, Fun) -> {ok, run(Conn, Conn, Fun)};
executed({worker, Lease, Pid}, Fun) -> {ok, run(Lease, Pid, Fun)};
executed({node, Lease}, Fun) -> executed(sockpool_node_conn:start(Lease), Fun);
executed({error, _} = Error, _Fun) -> Error.

%% Subject: what the fun gets. It may have given the connection back or away already: that is no error.
run(Conn, Subject, Fun) ->
    try Fun(Subject) of
        Result ->
            _ = checkin(Conn),
            Result
    catch
        Class:Reason:Stack ->
            _ = discard_after_exception(Conn),
            erlang:raise(Class, Reason, Stack)
    end.

%%% Bytes.

%% @equiv send(Conn, Data, SendTimeout)
-spec send(conn(), iodata()) -> ok | {error, reason()}.
send(Conn, Data) ->
    do_send(Conn, Data, default).

%% @doc Sends all of the data, with its header where the pool has a `packet' framing. The default
%% time-out is the pool's `send_timeout'. After an error some of it may have been sent, and the
%% connection will be closed at check-in.
-spec send(conn(), iodata(), timeout()) -> ok | {error, reason()}.
send(Conn, Data, Timeout) when ?IS_TIMEOUT(Timeout) ->
    do_send(Conn, Data, Timeout);
send(_Conn, _Data, Timeout) ->
    bad_argument(timeout, Timeout).

do_send(?LEASE(_) = Lease, Data, Timeout) ->
    try erlang:iolist_to_binary(Data) of
        Binary -> sockpool_remote:send(Lease, Binary, Timeout)
    catch
        error:badarg -> bad_argument(data, Data)
    end;
do_send(?NODE_CONN(_), _Data, _Timeout) ->
    not_a_stream();
do_send(Conn, Data, Timeout) ->
    try erlang:iolist_to_iovec(Data) of
        Iovec -> conn_error(sockpool_wait:send(Conn, Iovec, Timeout), Conn)
    catch
        error:badarg -> bad_argument(data, Data)
    end.

%% @equiv recv(Conn, Length, 5000)
-spec recv(conn(), non_neg_integer() | packet) -> {ok, binary()} | {error, reason()}.
recv(Conn, Length) ->
    recv(Conn, Length, ?DEFAULT_TIMEOUT_MS).

%% @doc Receives exactly `Length' bytes, or with `packet' one message of the connection's framing; where it
%% has none, whatever there is, at least one byte. 0 means the same as `packet'. With a framing, too, `Length' bytes
%% are those that come next: the begin of a message, or what follows one. After a time-out what had come is kept for the
%% next recv, and the connection will be closed at check-in.
-spec recv(conn(), non_neg_integer() | packet, timeout()) -> {ok, binary()} | {error, reason()}.
recv(Conn, packet, Timeout) ->
    recv(Conn, 0, Timeout);
recv(?LEASE(_) = Lease, Length, Timeout) when ?IS_LENGTH(Length), ?IS_TIMEOUT(Timeout) ->
    sockpool_remote:recv(Lease, Length, Timeout);
recv(?NODE_CONN(_), Length, Timeout) when ?IS_LENGTH(Length), ?IS_TIMEOUT(Timeout) ->
    not_a_stream();
recv(Conn, Length, Timeout) when ?IS_LENGTH(Length), ?IS_TIMEOUT(Timeout) ->
    case sockpool_wait:recv(Conn, Length, Timeout) of
        {ok, _} = Ok -> Ok;
        Other -> conn_error(Other, Conn)
    end;
recv(_Conn, Length, Timeout) when ?IS_TIMEOUT(Timeout) ->
    bad_argument(length, Length);
recv(_Conn, _Length, Timeout) ->
    bad_argument(timeout, Timeout).

%% @doc Receives messages of the connection's framing, as recv/3 with `packet', up to the first of which the fun says
%% true, and returns all of them, all within one time-out. Where an error comes first, they are lost with it.
-spec recv_until(conn(), fun((Message :: binary()) -> boolean()), timeout()) -> {ok, [binary(), ...]} | {error, reason()}.
recv_until(Conn, IsLast, Timeout) when is_function(IsLast, 1), ?IS_TIMEOUT(Timeout) ->
    recv_until(Conn, IsLast, sockpool_wait:deadline(Timeout), []);
recv_until(_Conn, IsLast, Timeout) when ?IS_TIMEOUT(Timeout) ->
    bad_argument(is_last, IsLast);
recv_until(_Conn, _IsLast, Timeout) ->
    bad_argument(timeout, Timeout).

recv_until(Conn, IsLast, Deadline, Before) ->
    case recv(Conn, packet, sockpool_wait:left(Deadline)) of
        {ok, Message} ->
            case IsLast(Message) of
                true -> {ok, lists:reverse(Before, [Message])};
                false -> recv_until(Conn, IsLast, Deadline, [Message | Before])
            end;
        {error, _} = Error ->
            Error
    end.

%% @doc Checks a connection out, sends the data, receives the reply and checks the connection in, all
%% within one time-out. The reply is `Length' bytes, or `packet' (or 0): one message of the pool's framing. Without a
%% framing nothing would tell where it ends: `{error, {bad_argument, length, packet}}'. After an error the connection is
%% closed; whether the server has seen the request is then not known.
-spec request(pool(), iodata(), non_neg_integer() | packet, timeout()) ->
          {ok, binary()} | {error, reason()}.
request(Name, Data, Length, Timeout)
  when (Length =:= packet orelse ?IS_LENGTH(Length)), ?IS_TIMEOUT(Timeout) ->
    case piped(Name) of
        undefined ->
            request_elsewhere(Name, Data, Length, Timeout);
        {piped, Pool} when is_binary(Data) ->
            reply(sockpool_wait:request_piped(Pool, Data, Length, Timeout), Length);
        {piped, Pool} ->
            try erlang:iolist_to_binary(Data) of
                Binary -> reply(sockpool_wait:request_piped(Pool, Binary, Length, Timeout), Length)
            catch
                error:badarg -> bad_argument(data, Data)
            end;
        Pool ->
            try erlang:iolist_to_iovec(Data) of
                Iovec -> reply(sockpool_wait:request(Pool, Iovec, Length, Timeout), Length)
            catch
                error:badarg -> bad_argument(data, Data)
            end
    end;
request(_Name, _Data, Length, Timeout) when ?IS_TIMEOUT(Timeout) ->
    bad_argument(length, Length);
request(_Name, _Data, _Length, Timeout) ->
    bad_argument(timeout, Timeout).

%% @doc As request/4 for each of these, all within one time-out; the answers are in the order of the requests. With
%% `pipeline' above 1 they are under way together, as far as there is room; otherwise they are made one after the other.
-spec request_many(pool(), [iodata()], non_neg_integer() | packet, timeout()) ->
          [{ok, binary()} | {error, reason()}] | {error, reason()}.
request_many(Name, Requests, Length, Timeout)
  when length(Requests) >= 0, (Length =:= packet orelse ?IS_LENGTH(Length)), ?IS_TIMEOUT(Timeout) ->
    Deadline = sockpool_wait:deadline(Timeout),
    case piped(here(Name)) of
        {piped, Pool} ->
            Call = {Name, Pool, Length, Deadline},
            {Begun, Rest} = begin_some(queue:new(), Requests, Call),
            together(queue:out(Begun), Rest, Call);
        _ ->
            [request(Name, Data, Length, sockpool_wait:left(Deadline)) || Data <- Requests]
    end;
request_many(_Name, Requests, Length, Timeout)
  when length(Requests) >= 0, ?IS_TIMEOUT(Timeout) ->
    bad_argument(length, Length);
request_many(_Name, Requests, _Length, Timeout) when length(Requests) >= 0 ->
    bad_argument(timeout, Timeout);
request_many(_Name, Requests, _Length, _Timeout) ->
    bad_argument(requests, Requests).

here({Name, Node}) when ?IS_NAME(Name), Node =:= node() -> Name;
here(Pool) -> Pool.

%% {piped, Pool}, Pool, or undefined.
piped(Pool) when is_reference(Pool) ->
    case kind(Pool) of
        piped -> {piped, Pool};
        exclusive -> Pool;
        undefined -> undefined
    end;
piped(Name) ->
    persistent_term:get({sockpool, Name}, undefined).

%% As many as there is room for now.
begin_some(Begun, [Data | Rest], {_Name, Pool, Length, _Deadline} = Call) ->
    try erlang:iolist_to_binary(Data) of
        Binary ->
            case sockpool_wait:begin_piped(Pool, Binary, Length) of
                none -> {Begun, [Binary | Rest]};
                Place -> begin_some(queue:in({Binary, Place}, Begun), Rest, Call)
            end
    catch
        error:badarg -> begin_some(queue:in(bad_argument(data, Data), Begun), Rest, Call)
    end;
begin_some(Begun, [], _Call) ->
    {Begun, []}.

%% Whenever one has its answer the next ones are begun.
together({empty, _}, [], _Call) ->
    [];
together({empty, Begun}, [Data | Rest], {Name, _, Length, Deadline} = Call) ->
    Answer = case sockpool_wait:left(Deadline) of
                 0 -> {error, timeout};
                 LeftMs -> request(Name, Data, Length, LeftMs)
             end,
    [Answer | more_together(Begun, Rest, Call)];
together({{value, Step}, Begun}, Rest, Call) ->
    [finished(Step, Call) | more_together(Begun, Rest, Call)].

more_together(Begun, Rest, {_, _, _, Deadline} = Call) ->
    {More, Left} = case sockpool_wait:left(Deadline) of
                       0 -> {Begun, Rest};
                       _ -> begin_some(Begun, Rest, Call)
                   end,
    together(queue:out(More), Left, Call).

finished({error, _} = Error, _Call) ->
    Error;
finished({Data, Place}, {_Name, Pool, Length, Deadline}) ->
    reply(sockpool_wait:end_piped(Pool, Place, Data, Length, Deadline), Length).

request_elsewhere({Name, Node}, Data, Length, Timeout) when ?IS_NAME(Name), Node =:= node() ->
    request(Name, Data, Length, Timeout);
request_elsewhere({Name, Node}, Data, Length, Timeout) when ?IS_NAME(Name), is_atom(Node) ->
    try erlang:iolist_to_binary(Data) of
        Binary -> sockpool_remote:request(Node, Name, Binary, Length, Timeout)
    catch
        error:badarg -> bad_argument(data, Data)
    end;
request_elsewhere(Name, _Data, _Length, _Timeout) ->
    no_pool(Name).

reply(bad_length, Length) -> bad_argument(length, Length);
reply(Result, _Length) -> Result.

%%% Calls of functions on a node, and messages to its processes, over a pool with `transport => node'.

%% @doc Has the pool's node apply the function, in a process of its own there, and returns what it
%% returns. `Conn' is a connection or a pool; with a pool one is checked out for the call, within the
%% same time-out, and checked in. Any process may call over a connection that another one has checked
%% out, and several at the same time, up to `max_inflight'; one more gets `{error, busy}'.
%%
%% `{error, {exception, Class, Reason, Stack}}' is an exception in the function; `{signal, Reason}'
%% with the class `exit' means that the process that ran it was killed. After `timeout' the function
%% may still run there. Its reply will be dropped, and until then it counts for `max_inflight', and a
%% check-in closes the connection. `closed' and POSIX codes: the connection was lost, and whether the
%% function ran is not known. `{spawn, Reason}': the node could not start the process.
%%
%% What the function prints goes to the group leader of the process that checked the connection out. With
%% a pool of another node, that is the group leader of sockpool there; a C node drops it.
-spec call(conn() | pool(), module(), atom(), [term()], timeout()) ->
          {ok, Result :: term()} | {error, reason()}.
call(To, Module, Function, Args, Timeout)
  when is_atom(Module), is_atom(Function), length(Args) >= 0, ?IS_TIMEOUT(Timeout) ->
    case To of
        ?NODE_CONN(_) ->
            sockpool_node_conn:call(To, Module, Function, Args, Timeout);
        ?LEASE(Node) ->
            sockpool_remote:call(Node, To, Module, Function, Args, Timeout);
        {Name, Node} when ?IS_NAME(Name), is_atom(Node), Node =/= node() ->
            sockpool_remote:call(Node, Name, Module, Function, Args, Timeout);
        _ ->
            Deadline = sockpool_wait:deadline(Timeout),
            once(To, Timeout, fun(Lease) ->
                sockpool_node_call:call(Lease, Module, Function, Args, Deadline)
            end)
    end;
call(_To, Module, _Function, _Args, _Timeout) when not is_atom(Module) ->
    bad_argument(module, Module);
call(_To, _Module, Function, _Args, _Timeout) when not is_atom(Function) ->
    bad_argument(function, Function);
call(_To, _Module, _Function, Args, Timeout) when ?IS_TIMEOUT(Timeout) ->
    bad_argument(args, Args);
call(_To, _Module, _Function, _Args, Timeout) ->
    bad_argument(timeout, Timeout).

%% @equiv send_to(To, Destination, Message, CheckoutTimeout + SendTimeout)
-spec send_to(conn() | pool(), atom() | {atom(), node()} | pid(), term()) -> ok | {error, reason()}.
send_to(To, Destination, Message) ->
    do_send_to(To, Destination, Message, default).

%% @doc Sends a message to a process of the pool's node: a registered name, `{Name, Node}' with the name
%% of that node, or a pid of it. `ok' when the operating system has the message, as with `!' nobody says
%% whether the process lives. Messages over one connection stay in order. After `timeout' it may have been
%% sent, or may be yet. Without a time-out the pool's `checkout_timeout' holds for the connection, where `To'
%% is a pool, and its `send_timeout' from when nothing more can be sent.
-spec send_to(conn() | pool(), atom() | {atom(), node()} | pid(), term(), timeout()) ->
          ok | {error, reason()}.
send_to(To, Destination, Message, Timeout) when ?IS_TIMEOUT(Timeout) ->
    do_send_to(To, Destination, Message, Timeout);
send_to(_To, _Destination, _Message, Timeout) ->
    bad_argument(timeout, Timeout).

do_send_to(?NODE_CONN(_) = Conn, Destination, Message, Timeout) ->
    sockpool_node_conn:send_to(Conn, Destination, Message, Timeout);
do_send_to(?LEASE(Node) = Lease, Destination, Message, Timeout) ->
    sockpool_remote:send_to(Node, Lease, Destination, Message, Timeout);
do_send_to({Name, Node}, Destination, Message, Timeout)
  when ?IS_NAME(Name), is_atom(Node), Node =/= node() ->
    sockpool_remote:send_to(Node, Name, Destination, Message, Timeout);
do_send_to(Pool, Destination, Message, default) ->
    once(Pool, default, fun(Lease) ->
        sockpool_node_call:send_to(Lease, Destination, Message, default)
    end);
do_send_to(Pool, Destination, Message, Timeout) ->
    Deadline = sockpool_wait:deadline(Timeout),
    once(Pool, Timeout, fun(Lease) ->
        sockpool_node_call:send_to(Lease, Destination, Message, Deadline)
    end).

%% Without a process for the lease.
once(Conn, _Timeout, _Fun) when is_tuple(Conn), tuple_size(Conn) =/= 2 ->
    bad_argument(node_conn, Conn);
once(Pool, Timeout, Fun) ->
    case leased(Pool, Timeout, ?YIELDS) of
        {node, Lease} -> Fun(Lease);
        {worker, Lease, _Pid} -> run(Lease, Lease, fun not_a_node/1);
        {ok, Conn} -> run(Conn, Conn, fun not_a_node/1);
        {error, _} = Error -> Error
    end.

not_a_node(Conn) ->
    case info(Conn) of
        {ok, #{transport := Transport}} -> {error, {bad_option, transport, Transport}};
        {error, _} = Error -> Error
    end.

not_a_stream() -> {error, {bad_option, transport, node}}.

%%% TLS over a connection in its course.

%% @equiv starttls(Conn, Opts, 5000)
-spec starttls(conn(), sockpool_option_table:tls_options()) -> ok | {error, reason()}.
starttls(Conn, Opts) ->
    starttls(Conn, Opts, ?DEFAULT_TIMEOUT_MS).

%% @doc Goes on by TLS over a connection of a pool with `transport => tcp', once the server has been asked for that in the
%% clear and has agreed. `Opts' are those of the option `tls', with the pool's host for the name; all is verified as for a
%% pool with `transport => tls'. In `init' it is how the connection is for good; one of a lease is closed at check-in.
%%
%% Bytes that came before and that nobody has read are `{error, {unread_bytes, Text}}': whoever is between the two
%% could have put them there, to pass for what the server says under TLS. After this or any other error but `bad_option',
%% `bad_argument', `not_owner' and `busy' nothing can be sent or received any more.
%%
%% ```
%% Secure = fun(Conn) ->
%%              ok = sockpool:send(Conn, <<8:32, 80877103:32>>), % PostgreSQL's SSLRequest
%%              {ok, <<"S">>} = sockpool:recv(Conn, 1),
%%              sockpool:starttls(Conn, #{cacertfile => "ca.pem"})
%%          end,
%% ok = sockpool:start_pool(db, #{host => "localhost", port => 5432, init => Secure}).
%% '''
-spec starttls(conn(), sockpool_option_table:tls_options(), timeout()) -> ok | {error, reason()}.
starttls(?LEASE(_) = Lease, Opts, Timeout) when ?IS_TIMEOUT(Timeout) ->
    sockpool_remote:starttls(Lease, Opts, Timeout);
starttls(?NODE_CONN(_), _Opts, Timeout) when ?IS_TIMEOUT(Timeout) ->
    not_a_stream();
starttls(Conn, Opts, Timeout) when ?IS_TIMEOUT(Timeout) ->
    conn_error(sockpool_starttls:upgrade(Conn, Opts, Timeout), Conn);
starttls(_Conn, _Opts, Timeout) ->
    bad_argument(timeout, Timeout).

%%% The state of a connection.

%% @doc What set_state/2, or `init' by `{ok, State}', has set last, whoever had the connection then; `{ok, undefined}'
%% where nothing was. It goes with the connection, from owner to owner, and ends with it.
%%
%% ```
%% ok = sockpool:start_pool(db, #{host => "127.0.0.1", port => 7000, init => fun(_Conn) -> {ok, #{prepared => []}} end}),
%% {ok, #{prepared := []}} = sockpool:execute(db, fun(Conn) -> {ok, State} = sockpool:state(Conn), State end).
%% '''
-spec state(conn()) -> {ok, term()} | {error, reason()}.
state(?LEASE(_) = Lease) ->
    sockpool_remote:state(Lease);
state(?NODE_CONN(_)) ->
    not_a_stream();
state(Conn) ->
    conn_error(sockpool_state:get(Conn), Conn).

%% @doc Sets it, by the owner: such as which statements are prepared on this connection, or what was agreed on with
%% its server. A copy is kept, of at most 65,536 terms and bytes of binaries; else `{error, emsgsize}'. One whose owner
%% dies after that is closed.
-spec set_state(conn(), term()) -> ok | {error, reason()}.
set_state(?LEASE(_) = Lease, Term) ->
    sockpool_remote:set_state(Lease, Term);
set_state(?NODE_CONN(_), _Term) ->
    not_a_stream();
set_state(Conn, Term) ->
    conn_error(sockpool_state:set(Conn, Term), Conn).

%%% Looking at a connection.

%% @doc The connection's pool, transport, packet framing, age in milliseconds, and addresses. With
%% TLS also `protocol' (`tlsv1.2', `tlsv1.3'), `cipher' (its name as OpenSSL has it), `alpn' (the
%% protocol agreed on, or `undefined'), `peercert' (DER), `resumed' and `ktls' (whether the kernel
%% encrypts). On Linux `tcp' has what the system knows of a TCP connection, see docs/reference.md.
-spec info(conn()) -> {ok, map()} | {error, reason()}.
info(?LEASE(_) = Lease) ->
    sockpool_remote:info(Lease);
info(?NODE_CONN(_) = Conn) ->
    sockpool_node_conn:info(Conn);
info(Conn) ->
    conn_error(sockpool_nif:info(Conn), Conn).

-spec peername(conn()) -> {ok, address()} | {error, reason()}.
peername(?LEASE(_) = Lease) ->
    sockpool_remote:peername(Lease);
peername(?NODE_CONN(_) = Conn) ->
    sockpool_node_conn:peername(Conn);
peername(Conn) ->
    conn_error(sockpool_nif:peername(Conn), Conn).

-spec sockname(conn()) -> {ok, address()} | {error, reason()}.
sockname(?LEASE(_) = Lease) ->
    sockpool_remote:sockname(Lease);
sockname(?NODE_CONN(_) = Conn) ->
    sockpool_node_conn:sockname(Conn);
sockname(Conn) ->
    conn_error(sockpool_nif:sockname(Conn), Conn).

%% @doc Changes options of the connection until its check-in: `packet', `nodelay', `keepalive', and
%% `sndbuf' and `recbuf', which cannot be undone, so that the check-in then closes the connection.
-spec setopts(conn(), [{atom(), term()}]) -> ok | {error, reason()}.
setopts(?LEASE(_) = Lease, Opts) ->
    sockpool_remote:setopts(Lease, Opts);
setopts(Conn, Opts) ->
    %% Also where there is nothing to set.
    case sockname(Conn) of
        {ok, _} -> set(Conn, Opts);
        Error -> Error
    end.

set(_Conn, []) ->
    ok;
set(Conn, [{Key, Value} | Opts]) ->
    case setopt(Conn, Key, Value) of
        ok -> set(Conn, Opts);
        badarg -> {error, {bad_option, Key, Value}};
        Error -> Error
    end;
set(_Conn, Opts) ->
    bad_argument(opts, Opts).

setopt(?NODE_CONN(_) = Conn, Key, Value) ->
    sockpool_node_conn:setopt(Conn, Key, Value);
setopt(Conn, Key, Value) ->
    try conn_error(set_here(Conn, Key, Value), Conn) catch error:badarg -> badarg end.

set_here(Conn, packet, Value) ->
    case sockpool_framing:check(Value) of
        {ok, Framing} -> set_framing(Conn, sockpool_framing:parts(Framing));
        error -> badarg
    end;
set_here(Conn, Key, Value) ->
    sockpool_nif:setopt(Conn, Key, Value).

set_framing(Conn, {'fun', Cut}) -> sockpool_nif:set_cut(Conn, Cut);
set_framing(Conn, {Framing, undefined}) -> sockpool_nif:setopt(Conn, packet, Framing).

%% @doc Says an error in words: with an option or an argument also what is allowed. It takes the reasons of
%% every function here, also with the `{error, Reason}' around them, and those of a start of the application
%% that failed. Another term comes back as it is written in Erlang.
-spec format_error(reason() | term()) -> iolist().
format_error(Reason) ->
    sockpool_error:format(Reason).

%%% Errors.

conn_error(not_a_conn, Conn) -> bad_argument(conn, Conn);
conn_error(Result, _Conn) -> Result.

place({Name, Node}) when ?IS_NAME(Name), Node =:= node() -> {here, Name};
place({Name, Node}) when ?IS_NAME(Name), is_atom(Node) -> {there, Name, Node};
place(Name) when ?IS_NAME(Name) -> {here, Name};
place(Pool) when is_reference(Pool) ->
    case is_pool(Pool) of
        true -> {here, Pool};
        false -> nowhere
    end;
place(_Other) -> nowhere.

is_pool(Name) when is_atom(Name) -> true;
is_pool(Pool) -> kind(Pool) =/= undefined.

kind(Pool) ->
    try sockpool_nif:pool_kind(Pool) catch error:badarg -> undefined end.

no_pool(Name) when ?IS_NAME(Name) -> {error, not_found};
no_pool(Name) -> bad_argument(pool, Name).

bad_argument(Name, Value) ->
    {error, {bad_argument, Name, Value}}.
