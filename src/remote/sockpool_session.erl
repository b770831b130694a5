%%% @private
%%% The processes that work for clients of sockpool_server, one for each lease, request or other call
%%% that may take time. Such a process owns the local connection and answers the client directly. The
%%% server kills it when its client is gone: what the pool does for a dead owner is then what is to be
%%% done here.
-module(sockpool_session).

-export([lease/5, request/5, over_pool/2, over_lease/3, ready/4, pools/2, got/2, idle/1, serve/2, reply/2, destination/2]).

-include("../sockpool_lease.hrl").

%% How often a lease that nobody calls is looked at: `max_hold' or the end of its pool may have ended it.
-define(CHECK_MS, 60000).
%% Data of this size is not kept alive until this process happens to be garbage collected.
-define(LARGE_BYTES, 65536).

-spec lease(pid(), gen_server:from(), sockpool_remote:lease(), atom(), term()) -> ok.
lease(Server, {Client, _} = From, Lease, Name, Timeout) ->
    ok = sockpool_leak:client(Client),
    case checkout(Name, Timeout) of
        {worker, Conn, Worker} ->
            reply(From, {worker, Lease, Worker}),
            serve(Server, Conn);
        {ok, Conn} ->
            reply(From, {ok, Lease}),
            serve(Server, Conn);
        Error ->
            reply(From, Error)
    end.

checkout(Name, Timeout) ->
    case sockpool:leased(Name, Timeout) of
        {node, Lease} -> sockpool_node_conn:start(Lease);
        Result -> Result
    end.

%% What the server routed here before it has heard that the lease is over is still answered, by
%% `{error, closed}'. Code of before sockpool_wait:next/3 goes on here, too.
-spec serve(pid(), sockpool:conn()) -> ok.
serve(Server, Conn) -> sockpool_wait:next(?MODULE, {Server, Conn}, ?CHECK_MS).

-spec got(term(), {pid(), sockpool:conn()}) -> ok.
got({'$sockpool_call', From, {checkin, _}}, {_Server, Conn}) ->
    reply(From, sockpool:checkin(Conn));
got({'$sockpool_call', From, {checkin, _, clean}}, {_Server, Conn}) ->
    reply(From, sockpool:checkin(Conn, clean));
got({'$sockpool_call', From, {discard, _}}, {_Server, Conn}) ->
    reply(From, sockpool:discard(Conn));
got({'$sockpool_call', From, {discard, _, exception}}, {_Server, Conn}) ->
    reply(From, sockpool:discard_after_exception(Conn));
got({'$sockpool_call', From, Request}, {Server, Conn}) ->
    Result = call(Conn, Request),
    reply(From, Result),
    _ = collect(Request, Result),
    ok = check_after(Result, Server, Conn),
    serve(Server, Conn);
got({'$sockpool_conn', Asker, Ref}, {Server, Conn}) ->
    Asker ! {Ref, Conn},
    serve(Server, Conn);
got('$sockpool_over', _State) ->
    ok;
got({'$sockpool_client', Client}, {Server, Conn}) ->
    ok = sockpool_leak:client(Client),
    serve(Server, Conn);
got(_Stray, {Server, Conn}) ->
    serve(Server, Conn).

-spec idle({pid(), sockpool:conn()}) -> ok.
idle({Server, Conn}) ->
    ok = check(Server, Conn),
    serve(Server, Conn).

%% The peer may have closed the connection: that lease goes on until it is given back.
check_after({error, closed}, Server, Conn) -> check(Server, Conn);
check_after(_Result, _Server, _Conn) -> ok.

check(Server, Conn) ->
    case sockpool:info(Conn) of
        {error, closed} ->
            Server ! {'$sockpool_over', self()},
            ok;
        _Alive ->
            ok
    end.

call(Conn, {send, _, Data, default}) -> sockpool:send(Conn, Data);
call(Conn, {send, _, Data, Timeout}) -> sockpool:send(Conn, Data, Timeout);
call(Conn, {recv, _, Length, Timeout}) -> sockpool:recv(Conn, Length, Timeout);
call(Conn, {info, _}) -> sockpool:info(Conn);
call(Conn, {peername, _}) -> sockpool:peername(Conn);
call(Conn, {sockname, _}) -> sockpool:sockname(Conn);
call(Conn, {setopts, _, Opts}) -> sockpool:setopts(Conn, Opts);
call(Conn, {starttls, _, Opts, Timeout}) -> starttls(Conn, Opts, Timeout);
call(Conn, {state, _}) -> sockpool:state(Conn);
call(Conn, {set_state, _, Term}) -> sockpool:set_state(Conn, Term).

%% As start_pool/2: what is not exported here is of the other node.
starttls(Conn, Opts, Timeout) ->
    case sockpool_option:tls(Opts) of
        {ok, _Parsed} ->
            case not_exported(#{tls => sockpool_option:tls_given(Opts)}) of
                [] -> sockpool:starttls(Conn, Opts, Timeout);
                [Bad | _] -> {error, Bad}
            end;
        {error, _} = Error ->
            Error
    end.

collect({send, _, Data, _}, _) when is_binary(Data), byte_size(Data) >= ?LARGE_BYTES ->
    erlang:garbage_collect();
collect(_, {ok, Data}) when is_binary(Data), byte_size(Data) >= ?LARGE_BYTES ->
    erlang:garbage_collect();
collect(_Request, _Result) ->
    true.

-spec request(gen_server:from(), atom(), term(), term(), term()) -> ok.
request(From, Name, Data, Length, Timeout) ->
    reply(From, sockpool:request(Name, Data, Length, Timeout)).

-spec ready(gen_server:from(), atom(), term(), term()) -> ok.
ready(From, Name, Count, default) -> reply(From, sockpool:await_ready(Name, #{count => Count}));
ready(From, Name, Count, Timeout) -> reply(From, sockpool:await_ready(Name, #{count => Count, timeout => Timeout})).

%%% Calls of functions, and messages, over pools of node connections.

-spec over_pool(gen_server:from(), tuple()) -> ok.
over_pool(From, Request) ->
    reply(From, over(element(3, Request), Request)).

%% Any process may use such a connection, and several at the same time, so this is not the process that
%% has the lease. It ends with the call, which ends with the lease.
-spec over_lease(pid(), gen_server:from(), tuple()) -> ok.
over_lease(Holder, From, Request) ->
    reply(From, case conn_of(Holder) of
                    {node, Conn} -> over(Conn, Request);
                    stream -> {error, {bad_argument, node_conn, element(3, Request)}};
                    closed -> {error, closed}
                end).

conn_of(Holder) ->
    Monitor = monitor(process, Holder),
    Holder ! {'$sockpool_conn', self(), Monitor},
    receive
        {Monitor, Conn} ->
            true = demonitor(Monitor, [flush]),
            case is_to_node(Conn) of true -> {node, Conn}; false -> stream end;
        {'DOWN', Monitor, process, _, _} ->
            closed
    end.

is_to_node(?NODE_CONN(_)) -> true;
is_to_node(_Stream) -> false.

over(To, {call, _, _, Module, Function, Args, Timeout}) ->
    sockpool:call(To, Module, Function, Args, Timeout);
over(To, {send_to, _, _, Destination, Message, default}) ->
    sockpool:send_to(To, Destination, Message);
over(To, {send_to, _, _, Destination, Message, Timeout}) ->
    sockpool:send_to(To, Destination, Message, Timeout).

%%% Calls about pools.

-spec pools(gen_server:from(), term()) -> ok.
pools(From, which_pools) -> reply(From, sockpool_pool:names());
pools(From, stats) -> {ok, Stats} = sockpool:stats(), reply(From, Stats);
pools(From, {stop_pool, Name}) -> reply(From, sockpool:stop_pool(Name));
pools(From, {start_pool, Name, Opts}) -> reply(From, start_pool(Name, Opts));
pools(From, {update, Name, Changes}) -> reply(From, update(Name, Changes)).

start_pool(Name, Given) ->
    case sockpool_opts:parse(Name, Given) of
        {ok, _Parsed} ->
            {ok, Opts} = sockpool_opts:given(Given),
            if_exported(Opts, fun() -> sockpool:start_pool(Name, Opts) end);
        {error, _} = Error ->
            Error
    end.

update(Name, Given) ->
    case sockpool_opts:given(Given) of
        {ok, Changes} -> if_exported(Changes, fun() -> sockpool:update(Name, Changes) end);
        {error, _} = Error -> Error
    end.

if_exported(Opts, Fun) ->
    case not_exported(Opts) of
        [] -> Fun();
        [Bad | _] -> {error, Bad}
    end.

not_exported(Opts) ->
    [{bad_option, Key, sockpool_callback:shown(Value, Arity)} || {Key, Value, Arity} <- callbacks(Opts),
                                                                 not sockpool_callback:is_exported(Value, Arity)].

callbacks(Opts) ->
    Tls = case Opts of #{tls := #{} = Given} -> Given; #{} -> #{} end,
    Worker = case maps:get(worker, Opts, undefined) of {Module, Arg} -> {Module, start_link, [Arg]}; Start -> Start end,
    Validate = case maps:get(validate, Opts, undefined) of {'after', _} -> undefined; Look -> Look end,
    Health = case maps:get(health, Opts, undefined) of
                 #{} = Map -> maps:get(check, Map, undefined);
                 List when is_list(List) -> proplists:get_value(check, List);
                 Other -> Other
             end,
    [{Key, Value, Arity} || {Key, Value, Arity} <- [{worker, Worker, 0},
                                                    {health, Health, 1},
                                                    {validate, Validate, 1},
                                                    {init, maps:get(init, Opts, undefined), 1},
                                                    {{tls, password}, maps:get(password, Tls, undefined), 0},
                                                    {cookie, maps:get(cookie, Opts, undefined), 0}],
                            is_function(Value) orelse is_tuple(Value)].

%%% Answers.

%% As gen_server:reply/2, but to a node that is gone no connection is made: its processes have lost
%% what they held anyway.
-spec reply(gen_server:from(), term()) -> ok.
reply({To, Tag}, Reply) ->
    _ = erlang:send(destination(To, Tag), {Tag, Reply}, [noconnect]),
    ok.

%% Where the caller expects it: at the alias that ends with its wait, if it has one.
-spec destination(pid(), term()) -> pid() | reference().
destination(_To, [alias | Alias]) when is_reference(Alias) -> Alias;
destination(_To, [[alias | Alias] | _]) when is_reference(Alias) -> Alias;
destination(To, _Tag) -> To.
