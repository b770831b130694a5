%%% @doc The API of poolboy, over a pool with `transport => worker': a project moves by writing `sockpool_poolboy:'
%%% where it has `poolboy:'. What differs is in docs/poolboy.md.
%%%
%%% poolboy's users have the worker and nothing else, so that what a check-out is (a lease) has to be kept for them. It is
%%% in the dictionary of the process that has checked out: when that dies the lease is over at once, and who checks in
%%% by itself, as nearly everybody does, sends no message and asks nobody. For a worker that another process has checked
%%% out the pool is searched.
%%%
%%% A pool is a process with a local name, which is the pool's for sockpool. Where its user has given it none, as a global
%%% one, that is the first free of `sockpool_poolboy_1', `sockpool_poolboy_2' and so on.
-module(sockpool_poolboy).

-export([checkout/1, checkout/2, checkout/3, checkin/2, transaction/2, transaction/3]).
-export([child_spec/2, child_spec/3, child_spec/4, start/1, start/2, start_link/1, start_link/2, stop/1]).
-export([status/1, status_map/1]).
-export([run/4, name_of/1]).
-export_type([pool/0]).

-type pool() :: atom() | pid() | {Name :: atom(), node()} | {local, atom()} | {global, term()} | {via, module(), term()}.

-define(IS_TIMEOUT(T), (T =:= infinity orelse (is_integer(T) andalso T >= 0 andalso T =< 16#ffffffff))).
-define(TIMEOUT_MS, 5000).
%% poolboy waits for ever for a worker's start, and for nothing else meanwhile.
-define(START_MS, 60000).
-define(DEFAULT_SIZE, 5).
-define(DEFAULT_OVERFLOW, 10).

%% In the dictionary of who uses pools: #{Worker => Lease}, and #{Pool's process => Name}.
-define(HELD, '$sockpool_poolboy_held').
-define(KNOWN, '$sockpool_poolboy_known').
%% So many names are kept; pools have other processes when they are started again.
-define(KNOWN_MAX, 16).
%% With so many in hand, or twice, four times as many, those are looked for that other processes have checked in.
-define(HELD_MANY, 32).

%%% Check-out and check-in.

-spec checkout(pool()) -> pid().
checkout(Pool) ->
    checkout(Pool, true).

-spec checkout(pool(), Block :: boolean()) -> pid() | full.
checkout(Pool, Block) ->
    checkout(Pool, Block, ?TIMEOUT_MS).

%% @doc The time is also for a worker that has to be started, where `Block' is `false' as well.
-spec checkout(pool(), Block :: boolean(), timeout()) -> pid() | full.
checkout(Pool, Block, Timeout) ->
    case when_open(Pool, fun(Left) -> leased(named(Pool), Block, Left) end, Timeout) of
        {worker, Lease, Worker} ->
            _ = put(?HELD, (held())#{Worker => Lease}),
            Worker;
        {error, full} when Block =:= false ->
            full;
        {error, Reason} ->
            failed(Reason, [Pool, {checkout, make_ref(), Block}, Timeout]);
        {_Ok, Conn} ->
            %% Of a pool of sockets.
            _ = sockpool:checkin(Conn),
            failed(not_found, [Pool, {checkout, make_ref(), Block}, Timeout])
    end.

%% A name is its process's before the pool is open, and after it is stopped. Who asks then waits for that process, as for
%% poolboy's.
when_open(Pool, Ask, Timeout) ->
    case Ask(Timeout) of
        {error, Reason} when Reason =:= not_found; element(1, Reason) =:= bad_argument ->
            Deadline = sockpool_wait:deadline(Timeout),
            case begun(process(Pool), Timeout) of
                ok -> Ask(sockpool_wait:left(Deadline));
                {error, _} = Error -> Error
            end;
        Result ->
            Result
    end.

begun(Pid, Timeout) when is_pid(Pid), node(Pid) =:= node() ->
    case proc_lib:translate_initial_call(Pid) of
        {?MODULE, run, 4} ->
            try gen_server:call(Pid, begun, Timeout) of
                _Unknown -> ok
            catch
                exit:{timeout, _} -> {error, timeout};
                exit:_ -> {error, not_found}
            end;
        _ ->
            {error, not_found}
    end;
begun(_NoneHere, _Timeout) ->
    {error, not_found}.

process(Pid) when is_pid(Pid) -> Pid;
process(Name) when is_atom(Name) -> whereis(Name);
process({local, Name}) -> whereis(Name);
process({global, As}) -> global:whereis_name(As);
process({via, Module, As}) -> Module:whereis_name(As);
process({Name, Node}) when Node =:= node() -> whereis(Name);
process({_Name, _Node}) -> undefined.

leased(Name, false, Timeout) when ?IS_TIMEOUT(Timeout) -> leased_or_full(Name, Timeout, 2);
leased(Name, _Block, Timeout) when ?IS_TIMEOUT(Timeout) -> sockpool:leased(Name, Timeout);
leased(_Name, _Block, _Timeout) -> {error, timeout_value}.

%% Waits for a worker that is being started, or may be, and for no other process.
leased_or_full({_, _} = Name, Timeout, _Times) ->
    case sockpool:stats(Name) of
        {ok, #{size := Size, max_overflow := Overflow, leased := Leased, waiting := Waiting}}
          when Leased + Waiting >= Size + Overflow -> {error, full};
        {ok, _} -> sockpool:leased(Name, Timeout);
        {error, _} = Error -> Error
    end;
leased_or_full(Name, Timeout, Times) ->
    case sockpool_pool:find(Name) of
        undefined -> {error, not_found};
        Pool -> taken_or_full(Pool, Name, Timeout, Times)
    end.

taken_or_full(Pool, Name, Timeout, Times) ->
    case sockpool_nif:checkout(Pool) of
        again ->
            taken_or_full(Pool, Name, Timeout, Times);
        Empty when Empty =:= empty; Empty =:= crowded ->
            case sockpool_wait:checkout_growing(Pool, Timeout) of
                {error, full} when Times > 1 ->
                    %% One may have been on its way from here to there just now.
                    erlang:yield(),
                    taken_or_full(Pool, Name, Timeout, Times - 1);
                Result ->
                    Result
            end;
        {check, Lease, Worker} ->
            sockpool_wait:checked(Pool, Lease, Worker, Timeout);
        Result ->
            Result
    end.

held() ->
    case get(?HELD) of
        undefined -> #{};
        Held when map_size(Held) < ?HELD_MANY; map_size(Held) band (map_size(Held) - 1) =/= 0 -> Held;
        Held -> maps:filter(fun(_Worker, Lease) -> sockpool_nif:worker(Lease) =/= {error, closed} end, Held)
    end.

%% @doc Of a worker that is not checked out nothing happens.
-spec checkin(pool(), Worker :: pid()) -> ok.
checkin(Pool, Worker) when is_pid(Worker) ->
    case get(?HELD) of
        #{Worker := Lease} = Held ->
            _ = case map_size(Held) of
                    1 -> erase(?HELD);
                    _ -> put(?HELD, maps:remove(Worker, Held))
                end,
            %% Where somebody else has checked it in already that is over, whoever has the worker now.
            _ = sockpool:checkin(Lease),
            ok;
        _ ->
            checkin_of_another(named(Pool), Worker)
    end.

checkin_of_another({Name, Node}, Worker) ->
    erpc:cast(Node, ?MODULE, checkin, [Name, Worker]);
checkin_of_another(_Name, Worker) when node(Worker) =/= node() ->
    ok;
checkin_of_another(Name, Worker) ->
    case sockpool_pool:find(Name) of
        undefined -> ok;
        Pool -> returned(Pool, Worker, 0)
    end.

returned(Pool, Worker, Cursor) ->
    case sockpool_nif:return_worker(Pool, Worker, Cursor) of
        ok -> ok;
        Next -> returned(Pool, Worker, Next)
    end.

-spec transaction(pool(), fun((Worker :: pid()) -> Result)) -> Result.
transaction(Pool, Fun) ->
    transaction(Pool, Fun, ?TIMEOUT_MS).

%% @doc The worker is checked in after a fun that raised, too.
-spec transaction(pool(), fun((Worker :: pid()) -> Result), timeout()) -> Result.
transaction(Pool, Fun, Timeout) ->
    Worker = checkout(Pool, true, Timeout),
    try
        Fun(Worker)
    after
        ok = checkin(Pool, Worker)
    end.

%%% Starting and stopping.

-spec child_spec(Id :: term(), PoolArgs :: proplists:proplist()) -> supervisor:child_spec().
child_spec(Id, PoolArgs) ->
    child_spec(Id, PoolArgs, []).

-spec child_spec(Id :: term(), PoolArgs :: proplists:proplist(), WorkerArgs :: term()) -> supervisor:child_spec().
child_spec(Id, PoolArgs, WorkerArgs) ->
    child_spec(Id, PoolArgs, WorkerArgs, tuple).

-spec child_spec(Id :: term(), PoolArgs :: proplists:proplist(), WorkerArgs :: term(), tuple | map) ->
          supervisor:child_spec().
child_spec(Id, PoolArgs, WorkerArgs, tuple) ->
    {Id, {?MODULE, start_link, [PoolArgs, WorkerArgs]}, permanent, 5000, worker, [?MODULE]};
child_spec(Id, PoolArgs, WorkerArgs, map) ->
    #{id => Id, start => {?MODULE, start_link, [PoolArgs, WorkerArgs]}, restart => permanent, shutdown => 5000,
      type => worker, modules => [?MODULE]}.

-spec start(PoolArgs :: proplists:proplist()) -> {ok, pid()} | {error, term()}.
start(PoolArgs) ->
    start(PoolArgs, PoolArgs).

-spec start(PoolArgs :: proplists:proplist(), WorkerArgs :: term()) -> {ok, pid()} | {error, term()}.
start(PoolArgs, WorkerArgs) ->
    start(spawn, PoolArgs, WorkerArgs).

-spec start_link(PoolArgs :: proplists:proplist()) -> {ok, pid()} | {error, term()}.
start_link(PoolArgs) ->
    start_link(PoolArgs, PoolArgs).

%% @doc Returns when the workers are there, or the start of one has failed; the pool goes on starting them then.
-spec start_link(PoolArgs :: proplists:proplist(), WorkerArgs :: term()) -> {ok, pid()} | {error, term()}.
start_link(PoolArgs, WorkerArgs) ->
    start(spawn_link, PoolArgs, WorkerArgs).

start(Spawn, PoolArgs, WorkerArgs) ->
    As = proplists:get_value(name, PoolArgs),
    ok = check_name(As),
    case options(PoolArgs, WorkerArgs) of
        {ok, Opts} ->
            started(proc_lib:Spawn(?MODULE, run, [self(), As, Opts, maps:get(size, Opts)]));
        {error, Bad} = Error ->
            ok = sockpool_log:log(error, #{event => not_started, pool => As, reason => Bad}),
            Error
    end.

%% What gen_server takes for a name.
check_name(undefined) -> ok;
check_name({local, Name}) when is_atom(Name) -> ok;
check_name({global, _}) -> ok;
check_name({via, Module, _}) when is_atom(Module) -> ok;
check_name(_) -> error(badarg).

%% What has the wrong type is as if it were not there, as for poolboy.
options(PoolArgs, WorkerArgs) ->
    Get = fun(Key, Is, Default) ->
              Value = proplists:get_value(Key, PoolArgs),
              case Is(Value) of true -> Value; false -> Default end
          end,
    Module = Get(worker_module, fun is_atom/1, undefined),
    case proplists:get_value(worker_supervisor, PoolArgs) of
        undefined when Module =:= undefined ->
            {error, {bad_option, worker_module, undefined}};
        undefined ->
            sockpool_opts:parse(?MODULE, #{transport => worker,
                                           worker => {Module, start_link, [WorkerArgs]},
                                           size => Get(size, fun is_integer/1, ?DEFAULT_SIZE),
                                           max_overflow => Get(max_overflow, fun is_integer/1, ?DEFAULT_OVERFLOW),
                                           strategy => Get(strategy, fun(S) -> S =:= lifo orelse S =:= fifo end, lifo),
                                           overflow_ttl => 0,
                                           abandoned => reuse,
                                           connect_timeout => ?START_MS});
        Supervisor ->
            {error, {bad_option, worker_supervisor, Supervisor}}
    end.

%% Where the pool does not start its names are free again when this returns.
started(Pid) ->
    Monitor = monitor(process, Pid),
    receive
        {sockpool_pool, Pid, ok} ->
            true = demonitor(Monitor, [flush]),
            {ok, Pid};
        {sockpool_pool, Pid, {error, _} = Error} ->
            true = unlink(Pid),
            receive {'DOWN', Monitor, process, Pid, _} -> ok end,
            unheard(Pid, Error);
        {'DOWN', Monitor, process, Pid, Reason} ->
            unheard(Pid, {error, Reason})
    end.

unheard(Pid, Error) ->
    receive {'EXIT', Pid, _} -> Error after 0 -> Error end.

%% @private
%% The pool's process, which has its names before anybody hears of it.
-spec run(pid(), undefined | {local, atom()} | {global, term()} | {via, module(), term()}, sockpool_opts:opts(),
          non_neg_integer()) -> ok.
run(Starter, As, Opts, Size) ->
    case registered(As) of
        {ok, Name} ->
            sockpool_pool:run(Starter, Name, Opts, Size);
        {taken, Pid} ->
            Starter ! {sockpool_pool, self(), {error, {already_started, Pid}}},
            ok
    end.

registered(undefined) ->
    {ok, own_name(1)};
registered({local, Name}) ->
    case is_registered(Name) of
        true -> {ok, Name};
        false -> {taken, whereis(Name)}
    end;
registered({global, As}) ->
    registered(global, As);
registered({via, Module, As}) ->
    registered(Module, As).

registered(Module, As) ->
    Name = own_name(1),
    case Module:register_name(As, self()) of
        yes -> {ok, Name};
        no -> {taken, Module:whereis_name(As)}
    end.

own_name(Number) ->
    Name = list_to_atom("sockpool_poolboy_" ++ integer_to_list(Number)),
    case is_registered(Name) of
        true -> Name;
        false -> own_name(Number + 1)
    end.

is_registered(Name) ->
    try
        register(Name, self())
    catch
        error:badarg -> false
    end.

%% @doc Returns when the workers have ended.
-spec stop(pool()) -> ok.
stop(Pool) ->
    try
        gen_server:stop(case Pool of {local, Name} -> Name; _ -> Pool end, normal, infinity)
    catch
        exit:{{nodedown, _} = Reason, _} -> failed(Reason, [Pool, stop]);
        exit:_ -> failed(not_found, [Pool, stop])
    end.

%%% What is in it.

%% @doc `{State, Available, Overflow, Monitored}': idle workers, those above `size', those that are checked out.
-spec status(pool()) -> {ready | overflow | full, non_neg_integer(), non_neg_integer(), non_neg_integer()}.
status(Pool) ->
    #{state := State, available := Available, overflow := Overflow, monitored := Monitored} = counted(Pool, status),
    {State, Available, Overflow, Monitored}.

-spec status_map(pool()) -> #{state := ready | overflow | full, available := non_neg_integer(),
                              overflow := non_neg_integer(), monitored := non_neg_integer(),
                              waiting := non_neg_integer()}.
status_map(Pool) ->
    counted(Pool, status_map).

counted(Pool, Request) ->
    case when_open(Pool, fun(_Left) -> sockpool:stats(named(Pool)) end, ?TIMEOUT_MS) of
        {ok, #{size := Size, max_overflow := Max, total := Total, idle := Idle, leased := Leased, waiting := Waiting}} ->
            Overflow = max(0, Total - Size),
            State = if
                        Idle > 0 -> ready;
                        Overflow >= Max -> full;
                        true -> overflow
                    end,
            #{state => State, available => Idle, overflow => Overflow, monitored => Leased, waiting => Waiting};
        {error, Reason} ->
            failed(Reason, [Pool, Request])
    end.

%% As gen_server:call/2,3 with these arguments.
-spec failed(term(), [term()]) -> no_return().
failed(Reason, Args) ->
    exit({reason(Reason), {gen_server, call, Args}}).

reason(full) -> timeout;
reason({unavailable, _Last}) -> timeout;
reason(not_found) -> noproc;
reason({bad_argument, pool, _}) -> noproc;
reason(closed) -> noproc;
reason(draining) -> shutdown;
reason(Reason) -> Reason.

%%% Which pool it is.

%% As sockpool has it. `undefined' is no pool's name.
named(Name) when is_atom(Name) ->
    Name;
named(Pid) when is_pid(Pid), node(Pid) =:= node() ->
    Known = case get(?KNOWN) of undefined -> #{}; Kept -> Kept end,
    case Known of
        #{Pid := Name} -> if_of(Pid, Name);
        #{} -> known(Pid, name_of(Pid), Known)
    end;
named(Pid) when is_pid(Pid) ->
    far(node(Pid), Pid);
named({local, Name}) ->
    Name;
named({global, As}) ->
    named(global:whereis_name(As));
named({via, Module, As}) ->
    named(Module:whereis_name(As));
named({Name, Node}) when is_atom(Name), Node =:= node() ->
    Name;
named({Name, Node}) when is_atom(Name), is_atom(Node) ->
    {Name, Node}.

known(_Pid, undefined, _Known) ->
    undefined;
known(Pid, Name, Known) ->
    _ = put(?KNOWN, case map_size(Known) of ?KNOWN_MAX -> #{Pid => Name}; _ -> Known#{Pid => Name} end),
    Name.

%% Where the node cannot be asked, who asks it next says why: no pool is called so.
far(Node, Pid) ->
    try
        {erpc:call(Node, ?MODULE, name_of, [Pid], ?TIMEOUT_MS), Node}
    catch
        error:{erpc, _} -> {'', Node}
    end.

%% @private
-spec name_of(pid()) -> atom().
name_of(Pid) ->
    case process_info(Pid, registered_name) of
        {registered_name, Name} -> if_of(Pid, Name);
        _ -> undefined
    end.

%% The name may be that of a later pool by now.
if_of(Pid, Name) ->
    Pool = sockpool_pool:find(Name),
    case Pool =/= undefined andalso sockpool_nif:pool_controller(Pool) of
        Pid -> Name;
        _ -> undefined
    end.
