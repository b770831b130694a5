%%% @private
%%% Cleans up after pool processes that crashed: tells the waiters, revokes the leases, closes the
%%% connections, in slices that leave the schedulers to others. The pool's restarted process does the
%%% same; this one is for pools that nobody starts again, or not at once.
-module(sockpool_janitor).
-behaviour(gen_server).

-export([start_link/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% One before this may have died with messages that it had not read, and the pools know only that one.
-spec init([]) -> {ok, []}.
init([]) ->
    lists:foreach(fun(Pool) -> self() ! {sockpool_shut, Pool} end, sockpool_pool:all()),
    {ok, []}.

-spec handle_call(term(), gen_server:from(), []) -> {reply, {error, unknown_call}, []}.
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

-spec handle_cast(term(), []) -> {noreply, []}.
handle_cast(_Request, State) ->
    {noreply, State}.

%% Sent by the pool itself, when its control process has died.
-spec handle_info(term(), []) -> {noreply, []}.
handle_info({sockpool_shut, Pool} = Shut, State) ->
    _ = try sockpool_nif:pool_clean_up(Pool) of
            again -> self() ! Shut;
            ok -> ok
        catch
            error:badarg -> ok  % of a library that was unloaded
        end,
    {noreply, State};
%% Of a pool whose process has died.
handle_info({sockpool_stop_worker, Connector, Worker, Ms}, State) ->
    _ = sockpool_worker:stop(Connector, Worker, Ms),
    {noreply, State};
handle_info(_Other, State) ->
    {noreply, State}.
