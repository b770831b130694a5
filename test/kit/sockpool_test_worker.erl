%%% Workers for the suites: a gen_server that does what its map says, and says to whom it is told to what happens
%%% to it: `{worker, started | terminated, Pid}'.
-module(sockpool_test_worker).
-behaviour(gen_server).

-include_lib("common_test/include/ct.hrl").

-export([start_link/1, start_link/2, returns/1, opts/1, opts/2]).
-export([started/2, settled_pool/2, taken/1, workers/2, owner/1]).
-export([await_dead/1, killed/1, drain/0, logged/1, lines/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

%% `to': who is told. `trap': traps exits. `init': what init does besides. `stubborn': does not end by `shutdown', but
%% is no gen_server then. `slow': how long terminate takes.
-spec start_link(map()) -> {ok, pid()} | {error, term()} | ignore.
start_link(#{stubborn := true} = What) ->
    Parent = self(),
    Pid = spawn_link(fun() ->
                             _ = process_flag(trap_exit, true),
                             ok = tell(started, What),
                             Parent ! {self(), up},
                             stubborn()
                     end),
    receive {Pid, up} -> {ok, Pid} end;
start_link(What) ->
    gen_server:start_link(?MODULE, What, []).

-spec start_link(term(), map()) -> {ok, pid()} | {error, term()} | ignore.
start_link(_Extra, What) -> start_link(What).

stubborn() -> receive crash -> exit(crash); _ -> stubborn() end.

%% For `{M, F, Args}'.
-spec returns(fun(() -> Result)) -> Result.
returns(Fun) -> Fun().

-spec opts(map()) -> map().
opts(What) -> opts(What, #{}).

%% Of a pool of these. What they are told to is the caller.
-spec opts(map(), map()) -> map().
opts(What, Opts) ->
    maps:merge(#{transport => worker, worker => {?MODULE, maps:merge(#{to => self()}, What)}, size => 1,
                 max_overflow => 0, backoff => {1, 10}}, Opts).

%% The pool of the case.
-spec started(list(), map()) -> atom().
started(Config, Opts) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, Opts),
    Pool.

-spec settled_pool(list(), map()) -> atom().
settled_pool(Config, Opts) ->
    Pool = started(Config, Opts),
    _ = sockpool_test_util:settled(Pool),
    Pool.

-spec taken(sockpool:pool()) -> {sockpool:conn(), pid()}.
taken(Pool) ->
    {ok, Conn} = sockpool:checkout(Pool, 20000),
    {Conn, sockpool:worker(Conn)}.

%% Who is there now, with nobody else at them; in the order in which they were given.
-spec workers(atom(), pos_integer()) -> [pid()].
workers(Pool, Count) ->
    Taken = [taken(Pool) || _ <- lists:seq(1, Count)],
    [ok = sockpool:checkin(Conn) || {Conn, _} <- Taken],
    [Pid || {_, Pid} <- Taken].

%% A process that has one.
-spec owner(atom()) -> {Owner :: pid(), Worker :: pid()}.
owner(Pool) ->
    Test = self(),
    Owner = spawn(fun() -> Has = taken(Pool), Test ! {has, self(), Has}, receive die -> Has end end),
    receive {has, Owner, {_Conn, Worker}} -> {Owner, Worker} end.

%% By its own monitor, with what it has ended.
-spec await_dead(pid()) -> term().
await_dead(Pid) -> ended(Pid, monitor(process, Pid)).

ended(Pid, Monitor) ->
    receive {'DOWN', Monitor, process, _, Reason} -> Reason
    after 30000 -> error({still_alive, Pid, process_info(Pid)})
    end.

-spec killed(pid()) -> term().
killed(Pid) ->
    Monitor = monitor(process, Pid),
    true = exit(Pid, kill),
    ended(Pid, Monitor).

-spec drain() -> ok.
drain() -> receive _ -> drain() after 0 -> ok end.

%% Has the lines of the case's pool sent here.
-spec logged(list()) -> ok.
logged(Config) ->
    Pool = ?config(pool, Config),
    sockpool_test_log:hear(Pool).

%% Those so far in which this is, and no more.
-spec lines(string()) -> [string()].
lines(Part) ->
    receive
        {log, Line} -> [Line || string:find(Line, Part) =/= nomatch] ++ lines(Part)
    after 0 ->
        []
    end.

init(What) ->
    _ = process_flag(trap_exit, maps:get(trap, What, false)),
    ok = tell(starting, What),
    case begun(maps:get(init, What, fun() -> ok end)) of
        ok ->
            ok = tell(started, What),
            {ok, What};
        Other ->
            Other
    end.

begun(Fun) -> Fun().

tell(Happened, #{to := To}) -> To ! {worker, Happened, self()}, ok;
tell(_Happened, #{}) -> ok.

handle_call(crash, _From, _What) -> exit(crashed_on_purpose);
handle_call(pid, _From, What) -> {reply, self(), What};
handle_call(Request, _From, What) -> {reply, {echo, Request}, What}.

handle_cast({stop, Reason}, What) -> {stop, Reason, What};
handle_cast(_Request, What) -> {noreply, What}.

handle_info(_Message, What) -> {noreply, What}.

terminate(Reason, What) ->
    receive after maps:get(slow, What, 0) -> ok end,
    case What of
        #{to := To} -> To ! {worker, terminated, self(), Reason}, ok;
        #{} -> ok
    end.
