%%% @private
%%% The control process of one pool. It starts connectors, keeps timers and closes descriptors, each
%%% step short; what to do is decided in C. It is never on the path of checkout, checkin, send or
%%% recv. If it dies, the pool fails its waiters and closes its connections; the process that its
%%% supervisor starts next takes the same pool over and fills it again. That one starts also where
%%% the files of TLS are of no use by then, and its connectors try them again: a supervisor that saw
%%% it fail at once, again and again, would give up and take all its children along.
%%%
%%% It never dies of what is scarce. Where there is no process to be had, an attempt fails with
%%% `system_limit', as one fails for which there is no descriptor.
-module(sockpool_pool).
-behaviour(gen_server).

-export([new/0, start_link/2, launch/2, find/1, running/1, all/0, names/0, known/0, stats/1, histograms/1, reload_tls/1, update/2, await_ready/3, facts/2]).
-export([run/3, run/4, init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([stats/0, histograms/0, histogram/0, id/0]).

-type id() :: atom() | sockpool_nif:pool().
%% Its name, or the pool itself where it has none.

-type stats() :: #{name := id(), size := non_neg_integer(), max_overflow := non_neg_integer(),
                   total := non_neg_integer(), idle := non_neg_integer(),
                   leased := non_neg_integer(), connecting := non_neg_integer(),
                   waiting := non_neg_integer(), checkouts := non_neg_integer(),
                   checkins := non_neg_integer(), created := non_neg_integer(),
                   reused := non_neg_integer(), closed := non_neg_integer(),
                   closed_by := #{Why :: atom() => non_neg_integer()},
                   connect_failed_by := #{sockpool_reason:class() => non_neg_integer()},
                   errors := #{Reason :: atom() => non_neg_integer()},
                   waited := non_neg_integer(), oldest_wait := non_neg_integer(), exhausted := non_neg_integer(),
                   deferred := non_neg_integer(),
                   abandoned := non_neg_integer(), leaked := non_neg_integer(), timeouts := non_neg_integer(),
                   pipelined := non_neg_integer(), health_ok := non_neg_integer(),
                   health_failed := non_neg_integer(), connect_attempts := non_neg_integer(), connect_failures := non_neg_integer(),
                   last_error := undefined | sockpool:last(),
                   last_error_at := undefined | integer()}.

%% Microseconds. Buckets: how many took no longer than the first of `bounds', longer but no longer than the second, and so on;
%% the last one, of one more than there are bounds, has those that took longer than all of them.
-type histogram() :: #{count := non_neg_integer(), sum := non_neg_integer(), buckets := [non_neg_integer()]}.
-type histograms() :: #{bounds := [pos_integer()], use := histogram(), wait := histogram(), idle := histogram(),
                        age := histogram(),
                        connect := #{total := histogram(), resolve := histogram(), tcp := histogram(),
                                     tls := histogram(), init := histogram()}}.

-define(TICK_MS, 100).
%% Between two lines about workers that have ended.
-define(LOSSES_TOLD_MS, 10000).
%% Connecting has not failed for that long.
-define(OUTAGE_ENDS_MS, 5000).

-record(state, {name :: id(),
                pool :: sockpool_nif:pool(),
                opts :: sockpool_opts:opts(),
                %% which of them were changed since the start; kept by the pool, for the life after a crash
                changes = #{} :: sockpool_opts:opts(),
                %% who is to hear how the start went
                starter :: pid() | undefined,
                %% how many connections have to be there before; the first that fails is enough
                awaited = 0 :: non_neg_integer(),
                %% false: the connectors have to configure the transport first; a process: it does
                %% that just now, and no connection is made before
                configured = true :: boolean() | pid(),
                unfit :: {error, term()} | undefined,
                %% late: its time is over, it was killed
                connectors = #{} :: #{pid() => {Timer :: reference() | late, sockpool_nif:lease(),
                                               sockpool_step:at()}},
                %% of processes that have workers end
                stopping = #{} :: #{reference() => []},
                unheard = [] :: [pid()],
                ready = sockpool_ready:new() :: sockpool_ready:waiting(),
                %% since when its connections are awaited of which the event `ready' tells
                unready = none :: none | integer(),
                %% who starts it hears of it when so many are up, or the time of the timer is over
                starting :: {sockpool_ready:count(), Timer :: reference()} | undefined,
                %% how many workers have ended of themselves since the last line in the log, and until when the
                %% next one is not written
                lost = none :: none | {non_neg_integer(), Last :: term(), Until :: integer()},
                %% leases that were reported for being held so long
                leaks = #{} :: #{Lease :: {Connection :: non_neg_integer(), pos_integer()} => pid()},
                %% this process is told of each connection that is closed
                listens = false :: boolean(),
                turn = 0 :: non_neg_integer(),
                health = sockpool_health:new() :: sockpool_health:health(),
                retry :: reference() | undefined,
                %% going: its slices are under way; false: nothing is due, until somebody wakes this process
                tick = false :: false | going | {soon | later, Timer :: reference()},
                outage = none :: none | {Failures :: pos_integer(), failing | Ends :: integer()}}).

%% @doc A pool without a name, that nobody has started. It is there as long as somebody has its reference.
-spec new() -> sockpool_nif:pool().
new() -> sockpool_nif:pool_new(undefined, erlang:system_info(schedulers)).

%% @doc Returns when the pool is open and its files are read. It is linked to the caller.
-spec start_link(id(), sockpool_opts:opts()) -> {ok, pid()} | {error, term()}.
start_link(Name, Opts) ->
    case launch(Name, Opts) of
        {ok, Pid} -> await_start(Pid);
        {error, _} = Error -> Error
    end.

await_start(Pid) ->
    receive
        {?MODULE, Pid, ok} ->
            {ok, Pid};
        {?MODULE, Pid, {error, _} = Error} ->
            true = unlink(Pid),
            receive {'EXIT', Pid, _} -> Error after 0 -> Error end;
        {'EXIT', Pid, Reason} ->
            {error, Reason}
    end.

%% @doc As start_link/2, without waiting: the caller gets `{sockpool_pool, Pid, ok | {error, Reason}}',
%% and after an error the process ends, with the reason `normal'.
-spec launch(id(), sockpool_opts:opts()) -> {ok, pid()} | {error, system_limit}.
launch(Name, Opts) ->
    try
        {ok, proc_lib:spawn_link(?MODULE, run, [self(), Name, Opts])}
    catch
        error:system_limit -> {error, system_limit}
    end.

%% @doc The pool of that name, or `undefined' where none runs on this node, or is about to run again after a crash. One that
%% was made before sockpool_nif was deleted and loaded anew is no pool any more.
-spec find(id()) -> sockpool_nif:pool() | undefined.
find(Name) when is_atom(Name) -> live(pool(persistent_term:get({sockpool, Name}, undefined)));
find(Pool) -> live(Pool).

live(Pool) ->
    try sockpool_nif:pool_controller(Pool) of
        _ -> Pool
    catch
        error:badarg -> undefined
    end.

%% @doc One whose process is there.
-spec running(id()) -> sockpool_nif:pool() | undefined.
running(Name) ->
    Pool = find(Name),
    case Pool =/= undefined andalso sockpool_nif:pool_controller(Pool) of
        Gone when Gone =:= false; Gone =:= undefined -> undefined;
        _Pid -> Pool
    end.

%% @doc Those that have a name, also where they have crashed.
-spec all() -> [sockpool_nif:pool()].
all() ->
    [pool(Term) || {{sockpool, _Name}, Term} <- persistent_term:get()].

pool({piped, Pool}) -> Pool;
pool(Pool) -> Pool.

-spec names() -> [atom()].
names() ->
    [Name || Name <- known(), running(Name) =/= undefined].

%% @doc Likewise those whose process has crashed, until they are stopped.
-spec known() -> [atom()].
known() -> [Name || {{sockpool, Name}, _} <- persistent_term:get()].

%% @doc Its connections are counted in as many calls as that takes.
-spec stats(id()) -> {ok, stats()} | {error, not_found}.
stats(Name) when is_atom(Name) ->
    case find(Name) of
        undefined -> {error, not_found};
        Pool -> stats(Pool)
    end;
stats(Pool) ->
    stats(Pool, {0, 0, 0, 0}).

stats(Pool, Counted) ->
    case sockpool_nif:pool_stats(Pool, Counted) of
        {_, _, _, _} = More -> stats(Pool, More);
        not_found -> {error, not_found};
        Stats -> {ok, Stats}
    end.

-spec histograms(id()) -> {ok, histograms()} | {error, not_found}.
histograms(Name) ->
    Pool = find(Name),
    case Pool =/= undefined andalso sockpool_nif:pool_controller(Pool) of
        Gone when Gone =:= false; Gone =:= undefined -> {error, not_found};
        _Pid -> {ok, sockpool_nif:pool_histograms(Pool)}
    end.

%% @doc See sockpool:reload_tls/1.
-spec reload_tls(id()) -> ok | {error, term()}.
reload_tls(Name) -> call(Name, reload_tls).

%% @doc See sockpool:update/2.
-spec update(id(), Changes :: term()) -> ok | {error, term()}.
update(Name, Changes) -> call(Name, {update, Changes}).

%% @doc See sockpool:await_ready/2.
-spec await_ready(id(), sockpool_ready:count(), timeout()) -> ok | {error, term()}.
await_ready(Name, Count, Timeout) -> call(Name, {await_ready, Count, Timeout}).

%% @doc What only its process knows, and that may be told to everybody: no option whole. `held' are the owners of leases that
%% were reported, by `leak_threshold', and have not ended.
-spec facts(id(), timeout()) -> {ok, #{server := string(), transport := atom(), checkout_timeout := timeout(), held := [pid()]}}
              | {error, not_found | closed | timeout}.
facts(Name, TimeoutMs) -> call(Name, facts, TimeoutMs).

call(Name, Request) -> call(Name, Request, infinity).

call(Name, Request, TimeoutMs) ->
    case find(Name) of
        undefined -> {error, not_found};
        Pool -> call(Pool, sockpool_nif:pool_controller(Pool), Request, TimeoutMs)
    end.

call(Pool, undefined, _Request, _TimeoutMs) ->
    without_process(Pool);
call(Pool, Pid, Request, TimeoutMs) ->
    try
        gen_server:call(Pid, Request, TimeoutMs)
    catch
        exit:{timeout, _} -> {error, timeout};
        exit:_ -> without_process(Pool)
    end.

%% It is stopped, or has crashed and is about to run again.
without_process(Pool) ->
    case sockpool_nif:pool_parent(Pool) of
        0 -> {error, not_found};
        _ -> {error, closed}
    end.

-spec init(term()) -> {stop, not_started_so}.
init(_) -> {stop, not_started_so}.

-spec run(pid(), id(), sockpool_opts:opts()) -> ok | no_return().
run(Starter, Name, Opts) ->
    run(Starter, Name, Opts, 0).

%% @private
%% Who starts it hears of it when so many connections are there, or the first of them has failed.
-spec run(pid(), id(), sockpool_opts:opts(), Awaited :: non_neg_integer()) -> ok | no_return().
run(Starter, Name, Given, Awaited) ->
    process_flag(trap_exit, true),
    case opened(Name, Given) of
        {ok, Pool, Changes, Opts} ->
            ok = sockpool_nif:pool_listen(Pool, false),
            State = #state{name = Name, pool = Pool, opts = Opts, changes = Changes, starter = Starter, awaited = Awaited},
            gen_server:enter_loop(?MODULE, [], begun(State));
        {error, _} = Error ->
            tell(Starter, Error)
    end.

opened(Name, Given) ->
    try
        Pool = find_or_make(Name),
        {Changes, Forgotten} = changes(Pool),
        Opts = maps:merge(Given, Changes),
        case open(Pool, config(Opts), erlang:phash2({make_ref(), os:system_time()})) of
            ok ->
                _ = Forgotten andalso sockpool_nif:pool_update(Pool, config(Opts), #{}),
                ok = mark(Name, Pool, Opts),
                {ok, Pool, Changes, Opts};
            gone -> free_name(Name, Pool), opened(Name, Given);
            {already_started, _} = Started -> {error, Started}
        end
    catch
        error:Reason when Reason =:= system_limit; Reason =:= enomem -> {error, Reason}
    end.

%% Who starts a pool again after a crash knows the options of its first start only; after a stop those are what counts.
changes(Pool) ->
    Kept = case sockpool_nif:pool_changes(Pool) of undefined -> #{}; Map -> Map end,
    case parent() =:= sockpool_nif:pool_parent(Pool) of
        true -> {Kept, false};
        false -> {#{}, map_size(Kept) > 0}
    end.

%% Who makes a request sees at once which way it goes; each way knows the other. A term that changes costs a scan of every
%% process: only a pool whose `pipeline' is above 1 for the first time, or not any more, has that.
mark(Name, _Pool, _Opts) when not is_atom(Name) ->
    ok;
mark(Name, Pool, Opts) ->
    Term = case Opts of
               #{pipeline := Many} when is_integer(Many), Many > 1 -> {piped, Pool};
               _ -> Pool
           end,
    case persistent_term:get({sockpool, Name}) of
        Term -> ok;
        _ -> persistent_term:put({sockpool, Name}, Term)
    end.

%% Not before it is open: until then another process may have the pool. Elsewhere, since files are read
%% and the password's fun is asked, and this process must not wait. Who starts a pool again is not to
%% wait either: it can do nothing about what is wrong with the options.
begun(#state{opts = #{tls := undefined}} = State) ->
    started(ok, State);
begun(#state{pool = Pool, opts = Opts} = State) ->
    Self = self(),
    Turn = sockpool_tls:turn(),
    Next = case parent() =:= sockpool_nif:pool_parent(Pool) of
               true -> told(ok, State);
               false -> State
           end,
    try
        Configure = fun() -> Self ! {self(), sockpool_connector:configure(Pool, Opts, Turn)} end,
        Next#state{configured = spawn_link(Configure)}
    catch
        error:system_limit -> started({error, system_limit}, Next)
    end.

started(ok, #state{pool = Pool} = State) ->
    IsRestart = parent() =:= sockpool_nif:pool_parent(Pool),
    ok = sockpool_nif:pool_set_parent(Pool, parent()),
    %% Whoever has woken it before has waited for that.
    self() ! sockpool_wake,
    ok = told_of(started, #{reason => case IsRestart of true -> restart; false -> start end}, State),
    starting(IsRestart, readied(State#state{unready = erlang:monotonic_time()}));
started({error, Reason} = Error, #state{starter = undefined, pool = Pool} = State) ->
    ok = sockpool_nif:pool_note_error(Pool, Reason),
    started(ok, connected(Error, sockpool_step:new(), State#state{configured = false}));
started(Error, State) ->
    self() ! sockpool_unfit,
    State#state{unfit = Error}.

%% Who starts it again after a crash does not wait, as others may need what he starts.
starting(false, #state{opts = #{start := {await, Count, Ms}}, awaited = 0} = State) ->
    State#state{starting = {Count, erlang:start_timer(Ms, self(), sockpool_starting)}};
starting(_IsRestart, State) ->
    awaited(State).

started_late(ok, _Count, State) ->
    State;
started_late({error, Reason}, Count, #state{name = Name, opts = Opts} = State) ->
    ok = sockpool_log:log(warning, #{event => started_late, pool => Name, count => Count, server => sockpool_opts:server(Opts), reason => Reason}),
    State.

%% Whether so many are up, and why not.
ready(size, #state{opts = #{size := Size}} = State) -> ready(Size, State);
ready(Count, #state{pool = Pool}) -> sockpool_nif:pool_ready(Pool, Count).

is_ready(Count, State) -> ready(Count, State) =:= ok.

told_of(What, Metadata, #state{name = Name, opts = Opts}) ->
    sockpool_told:pool(What, Name, Opts, #{}, Metadata).

%% More may be up than before.
readied(#state{unready = Since} = State) when Since =/= none ->
    case is_ready(size, State) of
        true ->
            ok = sockpool_told:pool(ready, State#state.name, State#state.opts, #{duration => erlang:monotonic_time() - Since}, #{}),
            readied(State#state{unready = none});
        false ->
            awaited_by_some(State)
    end;
readied(State) ->
    awaited_by_some(State).

awaited_by_some(#state{starting = {Count, Timer}} = State) ->
    case is_ready(Count, State) of
        true -> _ = erlang:cancel_timer(Timer), met(told(ok, State#state{starting = undefined}));
        false -> met(State)
    end;
awaited_by_some(State) ->
    met(State).

met(#state{ready = Ready} = State) ->
    State#state{ready = sockpool_ready:met(fun(Count) -> is_ready(Count, State) end, Ready)}.

awaited(#state{awaited = 0} = State) -> told(ok, State);
awaited(State) -> State.

told(Result, #state{starter = Starter} = State) ->
    ok = tell(Starter, Result),
    State#state{starter = undefined}.

tell(undefined, _Result) -> ok;
tell(Starter, Result) -> Starter ! {?MODULE, self(), Result}, ok.

%%% Whose child the pool was when it crashed. The same parent starts it again: not a start that
%%% somebody waits for to hear what is wrong with the options.

%% Never 0, which is: none, for a pool that was shut.
parent() -> 1 + erlang:phash2(hd(get('$ancestors'))).

open(Pool, Config, Seed) ->
    case sockpool_nif:pool_open(Pool, Config, Seed, whereis(sockpool_janitor)) of
        again -> erlang:yield(), open(Pool, Config, Seed);
        Result -> Result
    end.

find_or_make(Pool) when not is_atom(Pool) ->
    Pool;
find_or_make(Name) ->
    case find(Name) of
        undefined ->
            Make = fun() -> make(Name) end,
            global:trans({{sockpool, Name}, self()}, Make, [node()]);
        Pool ->
            Pool
    end.

make(Name) ->
    case find(Name) of
        undefined ->
            Pool = sockpool_nif:pool_new(Name, erlang:system_info(schedulers)),
            ok = persistent_term:put({sockpool, Name}, Pool),
            Pool;
        Pool ->
            Pool
    end.

config(#{transport := worker, validate := Validate} = Opts) ->
    Check = case Validate of always -> undefined; _ -> Validate end,
    Unused = #{packet => raw, nodelay => false, keepalive => false, user_timeout => undefined},
    config(Check, maps:merge(Opts#{validate := always}, Unused));
config(Opts) ->
    config(undefined, Opts).

config(Check, #{backoff := {Min, Max}, min_size := MinSize, max_lifetime := Lifetime, validate := Validate, bind := Bind, packet := Packet, keepalive := Keepalive} = Opts) ->
    {Framing, Cut} = sockpool_framing:parts(Packet),
    {Shortest, Longest} = lifetime(Lifetime),
    Opts#{min_size := case MinSize of undefined -> infinity; _ -> MinSize end, % the size is its limit
          lifetime_min => Shortest,
          lifetime_max => Longest,
          packet := Framing,
          cut => Cut,
          keepalive := Keepalive =/= false,
          keepalive_times => keepalive_times(Keepalive),
          silence => tick_time_s(),
          backoff_min => Min,
          backoff_max => Max,
          check => Check,
          health_interval => health(interval, Opts),
          health_timeout => health(timeout, Opts),
          validate := case Validate of {'after', Ms} -> Ms; When -> When end,
          bind := case Bind of undefined -> undefined; _ -> sockpool_host:address_bytes(Bind) end}.

health(Key, #{health := #{} = Health}) -> maps:get(Key, Health);
health(_Key, #{health := undefined}) -> 0.

%% 0: the system's.
keepalive_times(Times) when is_map(Times) -> {maps:get(idle, Times, 0), maps:get(interval, Times, 0), maps:get(count, Times, 0)};
keepalive_times(_IsOn) -> {0, 0, 0}.

%% Of one number, the last quarter before it.
lifetime({_Shortest, _Longest} = Both) -> Both;
lifetime(infinity) -> {infinity, infinity};
lifetime(Ms) -> {Ms - Ms div 4, Ms}.

%% Of connections to nodes: as of those of the VM.
tick_time_s() ->
    case application:get_env(kernel, net_ticktime) of
        {ok, Seconds} when is_integer(Seconds), Seconds > 0 -> min(Seconds, 86400);
        _ -> 60
    end.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}} | {noreply, #state{}}.
handle_call(reload_tls, _From, #state{opts = #{transport := Transport, tls := undefined}} = State) ->
    {reply, {error, {bad_option, transport, Transport}}, State};
handle_call(reload_tls, From, #state{pool = Pool, opts = Opts} = State) ->
    %% Elsewhere: it reads files, and this process must not wait.
    Turn = sockpool_tls:turn(),
    Self = self(),
    try
        _ = spawn(fun() ->
            Result = sockpool_connector:configure(Pool, Opts, Turn),
            _ = Result =:= ok andalso (Self ! sockpool_configured),
            gen_server:reply(From, Result)
        end),
        {noreply, State}
    catch
        error:system_limit -> {reply, {error, system_limit}, State}
    end;
handle_call({update, Given}, _From, #state{pool = Pool, opts = Opts, changes = Before} = State) ->
    case sockpool_opts:changed(Given, Opts) of
        {ok, New, Changed} ->
            Changes = maps:merge(Before, New),
            try
                ok = sockpool_nif:pool_update(Pool, config(Changed), Changes),
                Next = State#state{opts = Changed, changes = Changes},
                ok = changed(maps:keys(New), Next),
                {reply, ok, readied(step(Next))}
            catch
                error:enomem -> {reply, {error, enomem}, State}
            end;
        {error, _} = Error ->
            {reply, Error, State}
    end;
handle_call({await_ready, Count, default}, From, #state{opts = #{checkout_timeout := Timeout}} = State) ->
    handle_call({await_ready, Count, Timeout}, From, State);
handle_call({await_ready, Count, Timeout}, From, #state{ready = Ready} = State) ->
    case ready(Count, State) of
        {error, _} when Timeout =/= 0 -> {noreply, State#state{ready = sockpool_ready:add(From, Count, Timeout, Ready)}};
        Result -> {reply, Result, State}
    end;
handle_call(facts, _From, #state{opts = Opts, leaks = Leaks} = State) ->
    {reply, {ok, (maps:with([transport, checkout_timeout], Opts))#{server => sockpool_opts:server(Opts), held => maps:values(Leaks)}}, State};
%% As of a supervisor, for who goes through the tree.
handle_call(which_children, _From, #state{opts = #{transport := worker, worker := Start}} = State) ->
    Modules = case sockpool_callback:name(Start) of {Module, _Function} -> [Module]; none -> dynamic end,
    {reply, [{undefined, Worker, worker, Modules} || Worker <- workers(State)], State};
handle_call(count_children, _From, #state{opts = #{transport := worker}} = State) ->
    Count = length(workers(State)),
    {reply, [{specs, 1}, {active, Count}, {supervisors, 0}, {workers, Count}], State};
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

changed(Keys, State) ->
    Others = Keys -- [size, max_overflow],
    _ = Others =:= Keys orelse told_of(resized, #{}, State),
    _ = Others =:= [] orelse told_of(updated, #{options => Others}, State),
    ok.

%% All that it is linked to, but for who has started it and who starts workers.
workers(#state{connectors = Connectors, health = Health}) ->
    {links, Links} = process_info(self(), links),
    Parent = case hd(get('$ancestors')) of Name when is_atom(Name) -> whereis(Name); Pid -> Pid end,
    [Worker || Worker <- Links, is_pid(Worker), Worker =/= Parent, not is_map_key(Worker, Connectors),
              not lists:member(Worker, sockpool_health:checkers(Health))].

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {noreply, #state{}, hibernate} | {stop, normal, #state{}}.
handle_info(sockpool_wake, State) ->
    {noreply, step(State)};
%% Of a connection that was made: under TLS 1.3 the server looks at the client's certificate after that.
handle_info({sockpool_refused, Reason}, State) ->
    {noreply, connected({error, Reason}, sockpool_step:new(), State)};
handle_info({timeout, Retry, retry}, #state{retry = Retry} = State) ->
    {noreply, step(State#state{retry = undefined})};
handle_info({timeout, _Timer, sockpool_checks}, State) ->
    {noreply, step(State)};
handle_info({timeout, _Timer, {sockpool_check, Pid}}, #state{health = Health} = State) ->
    {noreply, State#state{health = sockpool_health:over(Pid, Health)}};
handle_info({sockpool_health, Pid, peer, Peer}, #state{health = Health} = State) ->
    {noreply, State#state{health = sockpool_health:peer(Pid, Peer, Health)}};
handle_info({sockpool_health, Pid, Result}, #state{health = Health, opts = Opts, name = Name} = State) ->
    {noreply, State#state{health = sockpool_health:ended(Pid, Result, Opts#{name := Name}, Health)}};
handle_info({'EXIT', Pid, Reason}, #state{health = Health, opts = Opts, name = Name} = State) when is_map_key(Pid, Health) ->
    {noreply, State#state{health = sockpool_health:died(Pid, Reason, Opts#{name := Name}, Health)}};
handle_info({sockpool_stalled, Peer, Owner, Unacked, Retransmits, HeldMs}, #state{name = Name} = State) ->
    ok = sockpool_log:log(warning, #{event => stalled, pool => Name, peer => Peer, owner => Owner, held_ms => HeldMs, unacked => Unacked,
                                     retransmits => Retransmits}),
    ok = sockpool_told:stalled(Name, Peer, Owner, Unacked, Retransmits, HeldMs),
    {noreply, State};
%% The step first: after one there has to be a tick.
handle_info({timeout, Timer, tick}, #state{tick = {_, Timer}} = State) ->
    rest(tick(0, stepped(State#state{tick = going})));
handle_info({tick, Cursor}, #state{tick = going} = State) ->
    rest(tick(Cursor, State));
handle_info({sockpool_leak, {Connection, _} = Lease, ended, HeldMs, Peer}, #state{name = Name, leaks = Leaks} = State) ->
    {noreply, case maps:take(Lease, Leaks) of
                  {Owner, Rest} ->
                      ok = sockpool_leak:ended(Name, Connection, Owner, HeldMs, Peer),
                      State#state{leaks = Rest};
                  error ->
                      State
              end};
handle_info({sockpool_leak, {Connection, _} = Lease, Owner, HeldMs, Peer}, #state{name = Name, leaks = Leaks} = State) ->
    ok = sockpool_leak:report(Name, Connection, Owner, HeldMs, Peer),
    {noreply, State#state{leaks = Leaks#{Lease => Owner}}};
handle_info({sockpool_closed, Slot, Why, Numbers, Peer}, #state{name = Name} = State) ->
    ok = sockpool_told:closed(Name, Slot, Why, Numbers, Peer),
    {noreply, State};
handle_info({sockpool_revoked, Owner, HeldMs, Peer}, #state{name = Name} = State) ->
    ok = sockpool_told:revoked(Name, Owner, Peer, HeldMs),
    {noreply, State};
handle_info({sockpool_pipe, Pipe, Generation, IsWrite}, #state{pool = Pool} = State) ->
    ok = sockpool_nif:pipe_event(Pool, Pipe, Generation, IsWrite),
    {noreply, State};
handle_info({sockpool_idle, Slot, Generation}, #state{pool = Pool} = State) ->
    ok = sockpool_nif:pool_idle_event(Pool, Slot, Generation),
    {noreply, State};
handle_info(sockpool_configured, #state{configured = false} = State) ->
    {noreply, State#state{configured = true}};
handle_info({Pid, Result}, #state{configured = Pid} = State) ->
    {noreply, started(Result, State#state{configured = true})};
handle_info({'EXIT', Pid, Reason}, #state{configured = Pid} = State) ->
    {noreply, started({error, {tls, {configure, sockpool_reason:of_exit(Reason)}}}, State#state{configured = true})};
handle_info(sockpool_unfit, State) ->
    {stop, normal, State};
handle_info({sockpool_connector, Pid, Result}, #state{connectors = Connectors} = State)
  when is_map_key(Pid, Connectors) ->
    {_Timer, _Attempt, At} = maps:get(Pid, Connectors),
    {noreply, readied(connected(linked(Pid, Result), At, forget(Pid, State)))};
handle_info({timeout, Timer, {connector, Pid}}, #state{connectors = Connectors} = State) ->
    case Connectors of
        #{Pid := {Timer, Attempt, At}} ->
            {noreply, killed(Pid, State#state{connectors = Connectors#{Pid := {late, Attempt, At}}})};
        #{} ->
            {noreply, State}
    end;
handle_info({'EXIT', Pid, Reason}, #state{connectors = Connectors} = State)
  when is_map_key(Pid, Connectors) ->
    Told = sockpool_reason:of_exit(Reason),
    {noreply, died(maps:get(Pid, Connectors), Told, forget(Pid, State))};
%% It had ended before this process was linked to it: its connector knows why, unless that is the reason.
handle_info({'EXIT', Worker, noproc}, #state{opts = #{transport := worker}, unheard = Unheard} = State) ->
    _ = erlang:send_after(?TICK_MS, self(), {sockpool_ended, Worker, noproc}),
    {noreply, State#state{unheard = [Worker | Unheard]}};
handle_info({'EXIT', _Worker, Reason}, #state{opts = #{transport := worker}} = State) ->
    {noreply, lost(sockpool_reason:of_exit(Reason), State)};
handle_info({sockpool_ended, Worker, Reason}, #state{unheard = Unheard} = State) ->
    case lists:member(Worker, Unheard) of
        true -> {noreply, lost(sockpool_reason:of_exit(Reason), State#state{unheard = lists:delete(Worker, Unheard)})};
        false -> {noreply, State}
    end;
handle_info({sockpool_stop_worker, Connector, Worker, Ms}, State) ->
    {noreply, stopping(Connector, Worker, Ms, State)};
handle_info({'DOWN', Ref, process, _, _}, #state{stopping = Stopping, ready = Ready} = State) ->
    {noreply, State#state{stopping = maps:remove(Ref, Stopping), ready = sockpool_ready:gone(Ref, Ready)}};
handle_info({timeout, _Timer, {sockpool_ready, Ref}}, #state{ready = Ready} = State) ->
    {noreply, State#state{ready = sockpool_ready:over(Ref, fun(Count) -> ready(Count, State) end, Ready)}};
handle_info({timeout, Timer, sockpool_starting}, #state{starting = {Count, Timer}} = State) ->
    {noreply, told(ok, started_late(ready(Count, State), Count, State#state{starting = undefined}))};
handle_info(_Other, State) ->
    {noreply, State}.

%% After a crash the monitor of the pool does what is left to do, with other answers to waiters.
-spec terminate(term(), #state{}) -> ok.
terminate(Reason, #state{pool = Pool, connectors = Connectors} = State) ->
    Killed = lists:foldl(fun killed/2, State, maps:keys(Connectors)),
    Checkers = sockpool_health:checkers(State#state.health),
    lists:foreach(fun(Pid) -> exit(Pid, kill) end, Checkers),
    %% A shut closes what the dead wait on. The living are expected to come back to it.
    lists:foreach(fun(Pid) -> receive {'EXIT', Pid, _} -> ok end end, maps:keys(Connectors) ++ Checkers),
    _ = case Reason of
            normal -> stop(Reason, Pool, Killed);
            shutdown -> stop(Reason, Pool, Killed);
            {shutdown, _} -> stop(Reason, Pool, Killed);
            _ -> told_of(crashed, #{reason => sockpool_reason:of_exit(Reason)}, State)
        end,
    _ = State#state.unfit =:= undefined orelse told(State#state.unfit, State),
    ok.

stop(Reason, Pool, State) ->
    _ = listening(State),
    ok = shut_for_good(Pool, State#state.name),
    ok = sockpool_ready:all({error, draining}, State#state.ready),
    stopped(State),
    _ = State#state.unfit =:= undefined andalso told_of(stopped, #{reason => sockpool_reason:bounded(Reason)}, State),
    free(State#state.name, Pool).

%% When all workers have ended.
stopped(State) ->
    receive
        {sockpool_stop_worker, Connector, Worker, Ms} -> stopped(stopping(Connector, Worker, Ms, State))
    after 0 ->
        lists:foreach(fun(Ref) -> receive {'DOWN', Ref, process, _, _} -> ok end end,
                      maps:keys(State#state.stopping))
    end.

%% So that nothing is left of a pool that is stopped. It costs a scan of every process, in the background. Who starts
%% one of that name meanwhile has taken this pool over, or makes another one.
free(Name, Pool) ->
    _ = is_atom(Name) andalso sockpool_nif:pool_retire(Pool) andalso free_name(Name, Pool),
    ok.

free_name(Name, Pool) ->
    Forget = fun() ->
                     case pool(persistent_term:get({sockpool, Name}, undefined)) of
                         Pool -> persistent_term:erase({sockpool, Name});
                         _ -> false
                     end
             end,
    global:trans({{sockpool, Name}, self()}, Forget, [node()]).

%% The parent first: afterwards the pool may be another process's.
shut_for_good(Pool, Name) ->
    ok = sockpool_nif:pool_set_parent(Pool, 0),
    shut(Pool, Name).

shut(Pool, Name) ->
    Result = sockpool_nif:pool_shut(Pool),
    ok = tell_closed(Name),
    case Result of
        again -> shut(Pool, Name);
        ok -> ok
    end.

%% Those that one call has closed.
tell_closed(Name) ->
    receive
        {sockpool_closed, Slot, Why, Numbers, Peer} ->
            ok = sockpool_told:closed(Name, Slot, Why, Numbers, Peer),
            tell_closed(Name)
    after 0 ->
        ok
    end.

step(State) -> ticking(stepped(State)).

stepped(#state{configured = Configured} = State) when is_pid(Configured) ->
    State;
stepped(State) ->
    made_step(listening(State)).

%% Looked at before each step: what is closed is closed by that.
listening(#state{pool = Pool, listens = Before} = State) ->
    case sockpool_events:listens() of
        Before -> State;
        Now -> ok = sockpool_nif:pool_listen(Pool, Now), State#state{listens = Now}
    end.

made_step(#state{pool = Pool} = State) ->
    {Attempts, More, WaitMs} = sockpool_nif:pool_step(Pool),
    _ = More andalso (self() ! sockpool_wake),
    checked(retry_after(WaitMs, lists:foldl(fun start_connector/2, State, Attempts))).

checked(#state{pool = Pool, opts = Opts, health = Health} = State) ->
    State#state{health = sockpool_health:step(Pool, Opts, Health)}.

%% There is a tick from time to time while something is to be looked after; at rest there is none.
ticking(#state{tick = false} = State) ->
    State#state{tick = {soon, erlang:start_timer(?TICK_MS, self(), tick)}};
ticking(#state{tick = {later, Timer}} = State) ->
    _ = erlang:cancel_timer(Timer),
    ticking(State#state{tick = false});
ticking(State) ->
    State.

tick(Cursor, #state{pool = Pool} = State) ->
    case sockpool_nif:pool_tick(Pool, Cursor) of
        {due, Ms} ->
            Next = losses_told(outage_ended(State)),
            Next#state{tick = next_tick(min(Ms, told_in(Next)))};
        More ->
            self() ! {tick, More},
            State
    end.

%% What a process has used while it was busy is a tenth of what a pool costs besides its connections.
rest(#state{tick = going} = State) -> {noreply, State};
rest(#state{tick = {soon, _}} = State) -> {noreply, State};
rest(State) -> {noreply, State, hibernate}.

next_tick(infinity) -> false;
next_tick(Ms) when Ms =< ?TICK_MS -> {soon, erlang:start_timer(?TICK_MS, self(), tick)};
next_tick(Ms) -> {later, erlang:start_timer(Ms, self(), tick)}.

%% An outage that is over, or losses, of which a line is still to be written.
told_in(#state{outage = {_, Ends}}) when is_integer(Ends) -> ?TICK_MS;
told_in(#state{lost = {_, _, _}}) -> ?TICK_MS;
told_in(_State) -> infinity.

%% Of a worker its start is ended, too.
killed(Connector, #state{opts = #{transport := worker, worker_shutdown := Ms}} = State) ->
    stopping(sockpool_worker:stop_start(Connector, Ms), State);
killed(Connector, State) ->
    true = exit(Connector, kill),
    State.

stopping(Connector, Worker, Ms, State) -> stopping(sockpool_worker:stop(Connector, Worker, Ms), State).

stopping(none, State) -> State;
stopping(Ref, #state{stopping = Stopping} = State) -> State#state{stopping = Stopping#{Ref => []}}.

retry_after(WaitMs, #state{retry = Retry} = State) ->
    _ = Retry =/= undefined andalso erlang:cancel_timer(Retry),
    case WaitMs of
        infinity -> State#state{retry = undefined};
        _ -> State#state{retry = erlang:start_timer(WaitMs, self(), retry)}
    end.

start_connector(Attempt, #state{pool = Pool, opts = Opts, turn = Turn} = State) ->
    %% Taken here: none of this life is then later than its shut.
    Configure = case State#state.configured of
                    true -> done;
                    false -> sockpool_tls:turn()
                end,
    case sockpool_connector:start(Pool, Attempt, Opts, Turn, Configure) of
        {ok, Pid, At} ->
            Timer = erlang:start_timer(maps:get(connect_timeout, Opts), self(), {connector, Pid}),
            Connectors = (State#state.connectors)#{Pid => {Timer, Attempt, At}},
            State#state{connectors = Connectors, turn = Turn + 1};
        {error, _} = Error ->
            connected(Error, sockpool_step:new(), State)
    end.

forget(Pid, #state{connectors = Connectors} = State) ->
    case maps:take(Pid, Connectors) of
        {{Timer, _Attempt, _At}, Rest} ->
            _ = Timer =/= late andalso erlang:cancel_timer(Timer),
            State#state{connectors = Rest};
        error ->
            State
    end.

%% A worker is this process's from here on, of which its connector is told.
linked(Connector, {ok, Worker}) ->
    true = link(Worker),
    Connector ! {self(), linked},
    ok;
linked(_Connector, Result) ->
    Result.

%% A connector that died before it could say why. The reason is noted first: whoever sees that the
%% capacity is back finds it.
died({late, Attempt, At}, _Reason, State) ->
    died({timer, Attempt, At}, sockpool_step:timeout(At), State);
died({_Timer, Attempt, At}, Reason, #state{pool = Pool} = State) ->
    ok = sockpool_nif:pool_note_error(Pool, Reason),
    ok = sockpool_nif:attempt_abort(Attempt, sockpool_reason:class(Reason)),
    connected({error, Reason}, At, State).

connected(Result, At, #state{name = Name, opts = Opts} = State) ->
    ok = sockpool_told:connect(Result, At, Name, Opts),
    attempted(Result, At, State).

attempted(ok, At, #state{awaited = Awaited} = State) when Awaited > 0 ->
    awaited(noted(ok, At, State#state{awaited = Awaited - 1}));
attempted({error, _} = Error, At, #state{awaited = Awaited} = State) when Awaited > 0 ->
    awaited(noted(Error, At, State#state{awaited = 0}));
attempted(Result, At, State) ->
    noted(Result, At, State).

%% An outage begins with a failure, and has ended when connecting worked again and did not fail since for
%% a while. Each is logged, not every attempt, and not every turn where it fails now and then.
noted({error, Reason}, At, #state{outage = none, name = Name, opts = Opts} = State) ->
    ok = sockpool_log:log(warning, #{event => cannot_connect, pool => Name, server => sockpool_opts:server(Opts),
                                     transport => maps:get(transport, Opts), attempt => sockpool_step:attempt(At), reason => Reason,
                                     at => where(Reason, At)}),
    State#state{outage = {1, failing}};
noted({error, _Reason}, _At, #state{outage = {Failures, _}} = State) ->
    State#state{outage = {Failures + 1, failing}};
noted(ok, _At, #state{outage = {Failures, failing}} = State) ->
    State#state{outage = {Failures, sockpool_wait:deadline(?OUTAGE_ENDS_MS)}};
noted(ok, _At, State) ->
    State.

%% A worker has ended, of which C knows. In an orderly way, as when this pool has had it end: that is nothing to tell.
lost(Reason, State) when Reason =:= normal; Reason =:= shutdown; element(1, Reason) =:= shutdown ->
    State;
lost(Reason, #state{pool = Pool, lost = Lost} = State) ->
    ok = sockpool_nif:pool_note_error(Pool, {worker, Reason}),
    case Lost of
        none -> loss_logged(1, Reason, State);
        {Count, _, Until} -> State#state{lost = {Count + 1, Reason, Until}}
    end.

loss_logged(Count, Reason, #state{name = Name} = State) ->
    ok = sockpool_log:log(warning, #{event => workers_ended, pool => Name, count => Count, reason => Reason}),
    State#state{lost = {0, undefined, sockpool_wait:deadline(?LOSSES_TOLD_MS)}}.

losses_told(#state{lost = {Count, Last, Until}} = State) ->
    case sockpool_wait:left(Until) of
        0 when Count > 0 -> loss_logged(Count, Last, State);
        0 -> State#state{lost = none};
        _ -> State
    end;
losses_told(State) ->
    State.

where(timeout, At) -> [" (", sockpool_step:words(At), ")"];
where({timeout, _}, At) -> where(timeout, At);
where(_Reason, _At) -> "".

outage_ended(#state{outage = {Failures, Ends}, name = Name, opts = Opts} = State)
  when is_integer(Ends) ->
    case sockpool_wait:left(Ends) of
        0 ->
            ok = sockpool_log:log(notice, #{event => connected_again, pool => Name, server => sockpool_opts:server(Opts),
                                            transport => maps:get(transport, Opts), failures => Failures}),
            State#state{outage = none};
        _ ->
            State
    end;
outage_ended(State) ->
    State.
