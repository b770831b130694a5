%% @doc A worker without any I/O: a gen_server that gives back what it gets. All pools of processes
%% that are measured have this one.
-module(sockpool_bench_worker).
-behaviour(gen_server).
-behaviour(poolboy_worker).

-export([start_link/1, start_slowly/1, echo/2]).
-export([init/1, handle_call/3, handle_cast/2]).

-define(TIMEOUT_MS, 5000).

-spec start_link(term()) -> {ok, pid()}.
start_link(_) ->
    gen_server:start_link(?MODULE, 0, []).

%% @doc The same, where it takes so many milliseconds until it is there.
-spec start_slowly(non_neg_integer()) -> {ok, pid()}.
start_slowly(Ms) ->
    gen_server:start_link(?MODULE, Ms, []).

-spec echo(pid(), binary()) -> {ok, binary()}.
echo(Worker, Bytes) ->
    gen_server:call(Worker, {echo, Bytes}, ?TIMEOUT_MS).

-spec init(non_neg_integer()) -> {ok, none}.
init(Ms) ->
    receive after Ms -> {ok, none} end.

-spec handle_call({echo, binary()}, gen_server:from(), none) -> {reply, {ok, binary()}, none}.
handle_call({echo, Bytes}, _From, none) ->
    {reply, {ok, Bytes}, none}.

-spec handle_cast(term(), none) -> {noreply, none}.
handle_cast(_, none) ->
    {noreply, none}.
