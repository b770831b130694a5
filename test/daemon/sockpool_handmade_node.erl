%%% A node made by hand, for what no node does: its side of the handshake, and its frames, byte by byte.
%%%
%%% The daemon is a map with the port that it `listens' on, its `name' and its `cookie'.
-module(sockpool_handmade_node).

-include_lib("stdlib/include/assert.hrl").

-export([connect/1, join/2, join/3, atom_cache/0, pid_there/1]).
-export([term/1, frame/1, which_pools_frame/1, call_frame/2, send_control/2]).
-export([recv_control/1, recv_message/1, recv_last/1]).

-define(WAIT_MS, 20000).
%% What a node must have, and aliases.
-define(FLAGS, 16#801070f94).
-define(ATOM_CACHE, 16#2000).

connect(#{listens := Port}) ->
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}]),
    Socket.

%% Its handshake; keeps the creation that it was told for pid_there/1.
join(Daemon, Name) -> join(Daemon, Name, 0).

%% With more flags than those that a node must have.
join(#{name := Node, cookie := Cookie} = Daemon, Name, MoreFlags) ->
    OurFlags = ?FLAGS bor MoreFlags,
    Socket = connect(Daemon),
    ok = send_2(Socket, [$N, <<OurFlags:64, 7:32, (length(Name)):16>>, Name]),
    ?assertEqual(<<"sok">>, recv_2(Socket)),
    <<$N, Flags:64, Challenge:32, Creation:32, Len:16, Theirs:Len/binary>> = recv_2(Socket),
    ?assertEqual(atom_to_binary(Node), Theirs),
    ?assertEqual(16#407076fbc, Flags),
    put(?MODULE, {Theirs, Creation}),
    ok = send_2(Socket, [$r, <<99:32>>, proof(Cookie, Challenge)]),
    ?assertEqual(<<$a, (proof(Cookie, 99))/binary>>, recv_2(Socket)),
    Socket.

%% That its frames have headers for atoms.
atom_cache() -> ?ATOM_CACHE.

proof(Cookie, Challenge) -> erlang:md5([Cookie, integer_to_list(Challenge)]).

send_2(Socket, Message) -> gen_tcp:send(Socket, [<<(iolist_size(Message)):16>>, Message]).

recv_2(Socket) ->
    {ok, <<Len:16>>} = gen_tcp:recv(Socket, 2, ?WAIT_MS),
    {ok, Message} = gen_tcp:recv(Socket, Len, ?WAIT_MS),
    Message.

pid_there(Number) ->
    {Node, Creation} = get(?MODULE),
    binary_to_term(<<131, 88, 119, (byte_size(Node)), Node/binary, Number:32, 0:32,
                     Creation:32>>).

%% Without its version byte.
term(Term) ->
    <<131, Bytes/binary>> = term_to_binary(Term),
    Bytes.

frame(Bytes) -> [<<(iolist_size(Bytes)):32>>, Bytes].

send_control(Socket, Control) -> gen_tcp:send(Socket, frame([112, 131, term(Control)])).

which_pools_frame(Tag) -> call_frame(Tag, which_pools).

call_frame(Tag, Request) ->
    frame([112, 131, term({6, self(), '', sockpool}),
           131, term({'$gen_call', {self(), Tag}, Request})]).

recv_control(Socket) ->
    {Control, none} = recv_message(Socket),
    Control.

%% The next that is no tick.
recv_message(Socket) ->
    case gen_tcp:recv(Socket, 4, ?WAIT_MS) of
        {ok, <<0:32>>} ->
            recv_message(Socket);
        {ok, <<Len:32>>} ->
            {ok, <<112, Bytes/binary>>} = gen_tcp:recv(Socket, Len, ?WAIT_MS),
            {Control, Used} = binary_to_term(Bytes, [used]),
            case binary_part(Bytes, Used, byte_size(Bytes) - Used) of
                <<>> -> {Control, none};
                Payload -> {Control, binary_to_term(Payload)}
            end
    end.

recv_last(Socket) ->
    case gen_tcp:recv(Socket, 0, ?WAIT_MS) of
        {ok, _Ticks} -> recv_last(Socket);
        Error -> Error
    end.
