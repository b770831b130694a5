%% @doc The usual poolboy worker: a gen_server that owns one passive socket, of gen_tcp or ssl, and
%% does the request and its reply in `handle_call'. A lost socket is connected again by the next
%% call.
-module(sockpool_bench_poolboy_worker).
-behaviour(gen_server).
-behaviour(poolboy_worker).

-export([start_link/1, echo/2]).
-export([init/1, handle_call/3, handle_cast/2]).

-define(TIMEOUT_MS, 5000).

-record(state, {target :: sockpool_bench_peers:target(),
                socket :: sockpool_bench_socket:socket() | undefined}).

-spec start_link([{target, sockpool_bench_peers:target()}]) -> {ok, pid()} | {error, term()}.
start_link([{target, Target}]) ->
    gen_server:start_link(?MODULE, Target, []).

%% @doc Sends the bytes and returns as many that came back.
-spec echo(pid(), binary()) -> {ok, binary()} | {error, term()}.
echo(Worker, Bytes) ->
    gen_server:call(Worker, {echo, Bytes}, ?TIMEOUT_MS * 2).

-spec init(sockpool_bench_peers:target()) -> {ok, #state{}}.
init(Target) ->
    case sockpool_bench_socket:connect(Target) of
        {ok, Socket} -> {ok, #state{target = Target, socket = Socket}};
        {error, _} -> {ok, #state{target = Target}}
    end.

-spec handle_call({echo, binary()}, gen_server:from(), #state{}) ->
          {reply, {ok, binary()} | {error, term()}, #state{}}.
handle_call({echo, Bytes}, From, State = #state{socket = undefined, target = Target}) ->
    case sockpool_bench_socket:connect(Target) of
        {ok, Socket} -> handle_call({echo, Bytes}, From, State#state{socket = Socket});
        {error, Reason} -> {reply, {error, Reason}, State}
    end;
handle_call({echo, Bytes}, _From, State = #state{socket = Socket}) ->
    case sockpool_bench_socket:exchange(Socket, Bytes) of
        {ok, Reply} ->
            {reply, {ok, Reply}, State};
        {error, Reason} ->
            ok = sockpool_bench_socket:close(Socket),
            {reply, {error, Reason}, State#state{socket = undefined}}
    end.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_, State) ->
    {noreply, State}.
