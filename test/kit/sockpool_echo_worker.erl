%%% A driver as many have one of their own: a gen_server with a socket, which asks a server that sends back what comes.
-module(sockpool_echo_worker).
-behaviour(gen_server).

-export([start_link/1, echo/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-spec start_link({inet:ip_address(), inet:port_number()}) -> {ok, pid()} | {error, term()}.
start_link(Address) -> gen_server:start_link(?MODULE, Address, []).

-spec echo(pid(), binary()) -> binary().
echo(Worker, Bytes) -> gen_server:call(Worker, {echo, Bytes}).

-spec init({inet:ip_address(), inet:port_number()}) -> {ok, gen_tcp:socket()} | {stop, term()}.
init({Ip, Port}) ->
    process_flag(trap_exit, true),
    case gen_tcp:connect(Ip, Port, [binary, {active, true}, {nodelay, true}]) of
        {ok, Socket} -> {ok, Socket};
        {error, Reason} -> {stop, Reason}
    end.

-spec handle_call({echo, binary()}, gen_server:from(), gen_tcp:socket()) ->
          {reply, binary(), gen_tcp:socket()} | {stop, term(), gen_tcp:socket()}.
handle_call({echo, Bytes}, _From, Socket) ->
    case gen_tcp:send(Socket, Bytes) of
        ok -> answer(byte_size(Bytes), <<>>, Socket);
        {error, Reason} -> {stop, Reason, Socket}
    end.

answer(Length, Got, Socket) when byte_size(Got) >= Length ->
    {reply, Got, Socket};
answer(Length, Got, Socket) ->
    receive
        {tcp, Socket, Data} -> answer(Length, <<Got/binary, Data/binary>>, Socket);
        {tcp_closed, Socket} -> {stop, closed, Socket};
        {tcp_error, Socket, Reason} -> {stop, Reason, Socket}
    end.

-spec handle_cast(term(), gen_tcp:socket()) -> {noreply, gen_tcp:socket()}.
handle_cast(_Request, Socket) -> {noreply, Socket}.

-spec handle_info(term(), gen_tcp:socket()) -> {stop, term(), gen_tcp:socket()}.
handle_info({tcp_closed, Socket}, Socket) -> {stop, closed, Socket};
handle_info(Unexpected, Socket) -> {stop, {unexpected, Unexpected}, Socket}.

-spec terminate(term(), gen_tcp:socket()) -> ok.
terminate(_Reason, Socket) -> gen_tcp:close(Socket).
