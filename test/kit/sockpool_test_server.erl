%%% A scripted TCP or Unix socket server for the suites, in the test's own VM.
%%%
%%% A behaviour says what each connection does:
%%%   echo            sends back what comes
%%%   silent          reads and never answers
%%%   sink            does not even read
%%%   reset           resets the connection at once
%%%   close           closes it at once, in an orderly way
%%%   {reply, Fun}    Fun(Data) -> IoData | close | {close, IoData} | {'after', Ms, IoData}
%%%   {script, Fun}   Fun(Socket), in passive mode; the connection is closed when it returns
%%%
%%% It listens outside the range of ephemeral ports: a client that connects to a closed port within
%%% it can be given that very port as its own, and is then connected to itself.
-module(sockpool_test_server).
-behaviour(gen_server).

-export([start/0, start/1, start/2, stop/1, down/1, up/1, up/2]).
-export([in_step/1]).
-export([target/1, port/1, accepted/1, live/1, push/2, close_connections/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(ACCEPTORS, 4).
-define(FIRST_PORT, 10000).
-define(LAST_PORT, 32000).

%% Linux: struct tcp_info, whose field at byte 24 counts the segments without acknowledgement.
-define(IPPROTO_TCP, 6).
-define(TCP_INFO, 11).

-record(state, {address, options, behaviour, listener, accepted, waiting = [], serving = #{}}).

%% It stops with the process that started it.
-spec start() -> map().
start() -> start(echo).

-spec start(term()) -> map().
start(Behaviour) -> start(Behaviour, #{}).

%% Options: ip (address to listen on), path (a Unix socket), packet (server-side framing),
%% recbuf, listen (false: refuses until up/1).
-spec start(term(), map()) -> map().
start(Behaviour, Options) ->
    {ok, Pid} = gen_server:start(?MODULE, {self(), Behaviour, Options}, []),
    gen_server:call(Pid, server).

-spec stop(map()) -> ok.
stop(#{pid := Pid}) -> gen_server:stop(Pid).

%% Refuses connections, and closes those that there are.
-spec down(map()) -> ok.
down(#{pid := Pid}) -> gen_server:call(Pid, down, infinity).

%% Listens again at the same place.
-spec up(map()) -> ok.
up(#{pid := Pid}) -> gen_server:call(Pid, up, infinity).

-spec up(map(), term()) -> ok.
up(#{pid := Pid}, Behaviour) -> gen_server:call(Pid, {up, Behaviour}, infinity).

%% A script: sends back what comes, and reads on when that is taken. By pieces of 64 KB.
-spec in_step(gen_tcp:socket()) -> no_return().
in_step(Socket) ->
    {ok, Bytes} = gen_tcp:recv(Socket, 65536),
    ok = gen_tcp:send(Socket, Bytes),
    in_step(Socket).

%% The options that make a pool connect to the server.
-spec target(map()) -> map().
target(#{path := Path}) -> #{transport => unix, path => Path};
target(#{ip := Ip, port := Port}) -> #{host => Ip, port => Port}.

-spec port(map()) -> inet:port_number().
port(#{port := Port}) -> Port.

%% How many connections it has accepted since its start. Those counted are reached by push/2 and
%% close_connections/1.
-spec accepted(map()) -> non_neg_integer().
accepted(#{accepted := Counter}) -> counters:get(Counter, 1).

-spec live(map()) -> non_neg_integer().
live(#{pid := Pid}) -> gen_server:call(Pid, live, infinity).

%% Sends bytes on every connection; a client that looks finds them when this returns.
-spec push(map(), iodata()) -> ok.
push(#{pid := Pid}, Data) -> gen_server:call(Pid, {each, {push, Data}}, infinity).

%% Ends every connection; a client that looks finds the end of file when this returns.
-spec close_connections(map()) -> ok.
close_connections(#{pid := Pid}) -> gen_server:call(Pid, {each, shutdown}, infinity).

%%% The server process.

-spec init({pid(), term(), map()}) -> {ok, #state{}}.
init({Starter, Behaviour, Options}) ->
    process_flag(trap_exit, true),
    _ = monitor(process, Starter),
    State = #state{options = Options, behaviour = Behaviour, accepted = counters:new(1, [])},
    {Listener, Address} = first_listen(Options),
    Listening = State#state{address = Address, listener = Listener},
    case Options of
        #{listen := false} -> {ok, close_listener(Listening)};
        #{} -> {ok, accept_more(Listening)}
    end.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call(server, _From, #state{address = Address, accepted = Counter} = State) ->
    {reply, Address#{pid => self(), accepted => Counter}, State};
handle_call(live, _From, #state{serving = Serving} = State) ->
    {reply, map_size(Serving), State};
handle_call(down, _From, State) ->
    {reply, ok, shut(State)};
handle_call({up, Behaviour}, From, State) ->
    handle_call(up, From, State#state{behaviour = Behaviour});
handle_call(up, _From, #state{listener = undefined, address = Address} = State) ->
    {ok, Listener} = listen(Address, State#state.options),
    {reply, ok, accept_more(State#state{listener = Listener})};
handle_call({each, Request}, _From, #state{serving = Serving} = State) ->
    lists:foreach(fun(Pid) -> ask(Pid, Request) end, maps:keys(Serving)),
    {reply, ok, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, normal, #state{}}.
handle_info({accepted, Pid}, #state{waiting = Waiting, serving = Serving} = State) ->
    counters:add(State#state.accepted, 1, 1),
    case lists:member(Pid, Waiting) of
        true ->
            {noreply, accept_more(State#state{waiting = lists:delete(Pid, Waiting),
                                              serving = Serving#{Pid => true}})};
        false ->
            %% The message was under way when shut/1 killed its sender.
            {noreply, State}
    end;
handle_info({'EXIT', Pid, _Reason}, #state{serving = Serving} = State) ->
    {noreply, State#state{serving = maps:remove(Pid, Serving)}};
handle_info({'DOWN', _Monitor, process, _Starter, _Reason}, State) ->
    {stop, normal, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{address = Address} = State) ->
    _ = shut(State),
    _ = [file:delete(Path) || {path, Path} <- maps:to_list(Address)],
    ok.

shut(#state{waiting = Waiting, serving = Serving} = State) ->
    Closed = close_listener(State),
    lists:foreach(fun kill/1, Waiting ++ maps:keys(Serving)),
    Closed#state{waiting = [], serving = #{}}.

accept_more(#state{waiting = Waiting} = State) when length(Waiting) >= ?ACCEPTORS ->
    State;
accept_more(#state{listener = Listener, behaviour = Behaviour} = State) ->
    Server = self(),
    Pid = spawn_link(fun() -> accept(Server, Listener, Behaviour) end),
    accept_more(State#state{waiting = [Pid | State#state.waiting]}).

close_listener(#state{listener = undefined} = State) ->
    State;
close_listener(#state{listener = Listener} = State) ->
    ok = gen_tcp:close(Listener),
    State#state{listener = undefined}.

kill(Pid) ->
    exit(Pid, kill),
    receive {'EXIT', Pid, _} -> ok end.

ask(Pid, Request) ->
    Monitor = monitor(process, Pid),
    Pid ! {Request, self(), Monitor},
    receive
        {Monitor, done} -> true = demonitor(Monitor, [flush]);
        {'DOWN', Monitor, process, Pid, _} -> true
    end.

%%% Listening.

first_listen(#{path := Path} = Options) ->
    _ = file:delete(Path),
    {ok, Listener} = listen(#{path => Path}, Options),
    {Listener, #{path => Path}};
first_listen(Options) ->
    Ip = maps:get(ip, Options, {127, 0, 0, 1}),
    Port = ?FIRST_PORT + rand:uniform(?LAST_PORT - ?FIRST_PORT),
    case listen(#{ip => Ip, port => Port}, Options) of
        {ok, Listener} -> {Listener, #{ip => Ip, port => Port}};
        {error, eaddrinuse} -> first_listen(Options)
    end.

listen(#{path := Path}, Options) ->
    _ = file:delete(Path),
    gen_tcp:listen(0, [{ifaddr, {local, Path}} | socket_options(Options)]);
listen(#{ip := Ip, port := Port}, Options) ->
    Family = case tuple_size(Ip) of 4 -> inet; 8 -> inet6 end,
    gen_tcp:listen(Port, [Family, {ip, Ip}, {reuseaddr, true}, {nodelay, true}
                          | socket_options(Options)]).

socket_options(Options) ->
    [binary, {active, false}, {backlog, 1024}, {packet, maps:get(packet, Options, raw)},
     {send_timeout, infinity} | [{recbuf, Size} || {recbuf, Size} <- maps:to_list(Options)]].

%%% One connection.

accept(Server, Listener, Behaviour) ->
    case gen_tcp:accept(Listener) of
        {ok, Socket} ->
            Server ! {accepted, self()},
            serve(Socket, Behaviour);
        {error, Reason} when Reason =:= closed; Reason =:= enotconn; Reason =:= econnaborted ->
            ok
    end.

serve(Socket, reset) ->
    ok = inet:setopts(Socket, [{linger, {true, 0}}]),
    gen_tcp:close(Socket);
serve(Socket, close) ->
    gen_tcp:close(Socket);
serve(Socket, {script, Fun}) ->
    _ = Fun(Socket),
    gen_tcp:close(Socket);
serve(Socket, sink) ->
    loop(Socket, sink);
serve(Socket, Behaviour) ->
    %% Always reading, also while it sends: a client may send all before it reads.
    case inet:setopts(Socket, [{active, true}]) of
        ok -> loop(Socket, Behaviour);
        {error, _Gone} -> gen_tcp:close(Socket)
    end.

loop(Socket, Behaviour) ->
    receive
        {tcp, Socket, Data} ->
            answer(reply(Behaviour, Data), Socket, Behaviour);
        {late, Data} ->
            answer(Data, Socket, Behaviour);
        {{push, Data}, From, Tag} ->
            _ = gen_tcp:send(Socket, Data),
            ok = await_arrival(Socket),
            From ! {Tag, done},
            loop(Socket, Behaviour);
        {shutdown, From, Tag} ->
            _ = gen_tcp:shutdown(Socket, read_write),
            ok = await_arrival(Socket),
            From ! {Tag, done},
            gen_tcp:close(Socket);
        {tcp_closed, Socket} ->
            ok;
        {tcp_error, Socket, _Reason} ->
            gen_tcp:close(Socket)
    end.

%% Until the peer's kernel has acknowledged everything. A Unix socket delivers at once; so does the
%% loopback of systems that do not tell, as far as one can see.
await_arrival(Socket) ->
    case inet:getopts(Socket, [{raw, ?IPPROTO_TCP, ?TCP_INFO, 28}]) of
        {ok, [{raw, ?IPPROTO_TCP, ?TCP_INFO, <<_:24/binary, Unacked:32/native>>}]}
          when Unacked > 0 ->
            receive after 1 -> await_arrival(Socket) end;
        _ ->
            ok
    end.

reply(echo, Data) -> Data;
reply(silent, _Data) -> [];
reply({reply, Fun}, Data) -> Fun(Data).

answer(close, Socket, _Behaviour) ->
    gen_tcp:close(Socket);
answer({close, Data}, Socket, _Behaviour) ->
    _ = gen_tcp:send(Socket, Data),
    gen_tcp:close(Socket);
answer({'after', Ms, Data}, Socket, Behaviour) ->
    _ = erlang:send_after(Ms, self(), {late, Data}),
    loop(Socket, Behaviour);
answer([], Socket, Behaviour) ->
    loop(Socket, Behaviour);
answer(Data, Socket, Behaviour) ->
    case gen_tcp:send(Socket, Data) of
        ok -> loop(Socket, Behaviour);
        {error, _Gone} -> gen_tcp:close(Socket)
    end.
