%%% A client of Redis (6 or later, RESP3) on a pool of sockpool. docs/protocols.md says what is to be learned from it.
%%%
%%%     ok = sockpool:start_pool(cache, redis:options(#{host => "127.0.0.1", password => fun secrets:redis/0})).
%%%     {ok, <<"OK">>} = redis:q(cache, ["SET", Key, Value]).
%%%     {ok, [1, <<"blue">>]} = redis:multi(cache, [["INCR", "hits"], ["GET", "colour"]]).
%%%
%%% Strings are binaries, arrays and sets are lists, maps are maps, a missing value is `null'. An error of the server is
%%% `{error, Text}' with a binary, also within a list; one of the pool is `{error, Reason}' without.
-module(redis).

-export([options/1, hello/2]).
-export([q/2, q/3, q_many/3, multi/2, watch/3, subscribe/4]).
-export([ask/2, ask/3, ask_all/3]).
-export([encode/1, decode/1]).
-export_type([command/0, value/0, result/0]).

-type command() :: [iodata() | atom() | integer() | float(), ...].
-type value() :: binary() | number() | boolean() | null | infinity | '-infinity' | nan
               | [value()] | #{value() => value()} | {push, [value()]} | {error, binary()}.
-type result() :: {ok, value()} | {error, binary() | sockpool:reason()}.
-type event() :: {subscribed, Channel :: binary()} | {message, Channel :: binary(), binary()}.

-define(TIMEOUT_MS, 5000).

%%% The pool.

%% Options of sockpool, and of Redis: `username', `password' (or a fun that returns it), `database'.
-spec options(map()) -> sockpool:options().
options(Opts) ->
    Own = [username, password, database],
    Login = {?MODULE, hello, [maps:with(Own, Opts)]},
    maps:merge(#{port => 6379}, (maps:without(Own, Opts))#{packet => resp, init => Login}).

%% On each new connection.
-spec hello(sockpool:conn(), map()) -> ok | {error, term()}.
hello(Conn, Login) ->
    case ask(Conn, ["HELLO", 3 | auth(Login)]) of
        {ok, #{<<"proto">> := 3}} -> select(Conn, Login);
        {error, _} = Error -> Error
    end.

auth(#{password := Password} = Login) when is_function(Password, 0) -> auth(Login#{password := Password()});
auth(#{password := Password} = Login) -> ["AUTH", maps:get(username, Login, "default"), Password];
auth(#{}) -> [].

select(Conn, #{database := Number}) ->
    case ask(Conn, ["SELECT", Number]) of
        {ok, <<"OK">>} -> ok;
        {error, _} = Error -> Error
    end;
select(_Conn, #{}) ->
    ok.

%%% One command, one reply: whoever has a connection free. Not for what changes the connection (SELECT, SUBSCRIBE, MULTI,
%%% CLIENT REPLY), nor, where the pool is pipelined, for what waits in the server (BLPOP): others would wait behind it.

-spec q(sockpool:pool(), command()) -> result().
q(Pool, Command) -> q(Pool, Command, ?TIMEOUT_MS).

-spec q(sockpool:pool(), command(), timeout()) -> result().
q(Pool, Command, Timeout) -> reply(sockpool:request(Pool, encode(Command), packet, Timeout)).

%%% A connection for oneself.

%% All are sent at once. The replies are in the order of the commands.
-spec q_many(sockpool:pool(), [command()], timeout()) -> {ok, [value()]} | {error, sockpool:reason()}.
q_many(Pool, Commands, Timeout) -> leased(Pool, fun(Conn) -> ask_all(Conn, Commands, Timeout) end).

%% All of them or none, and nobody else's in between.
-spec multi(sockpool:pool(), [command()]) -> {ok, [value()]} | {error, binary() | sockpool:reason()}.
multi(Pool, Commands) -> leased(Pool, fun(Conn) -> exec(Conn, Commands) end).

%% The fun looks at what is there (ask/2), and returns the commands. They are not carried out, `{error, changed}', where somebody
%% has changed one of the keys meanwhile.
-spec watch(sockpool:pool(), [iodata(), ...], fun((sockpool:conn()) -> [command()])) ->
          {ok, [value()]} | {error, changed | binary() | sockpool:reason()}.
watch(Pool, Keys, Fun) ->
    leased(Pool, fun(Conn) ->
                         case ask(Conn, ["WATCH" | Keys]) of
                             {ok, <<"OK">>} -> exec(Conn, Fun(Conn));
                             {error, _} = Error -> Error
                         end
                 end).

exec(Conn, Commands) ->
    case ask_all(Conn, [["MULTI"] | Commands] ++ [["EXEC"]], ?TIMEOUT_MS) of
        {ok, Replies} ->
            case lists:last(Replies) of
                {error, _} = Refused -> Refused;
                null -> {error, changed};
                Results -> {ok, Results}
            end;
        {error, _} = Error ->
            Error
    end.

%% The caller has a connection until the handler has said `stop'. A process that is killed while it waits here costs the
%% connection, and the pool makes another.
-spec subscribe(sockpool:pool(), [iodata(), ...], fun((event(), State) -> {more | stop, State}), State) ->
          {ok, State} | {error, binary() | sockpool:reason()}.
subscribe(Pool, Channels, Handler, State) ->
    leased(Pool, fun(Conn) ->
                         case sockpool:send(Conn, encode(["SUBSCRIBE" | Channels])) of
                             ok -> published(Conn, Handler, State);
                             {error, _} = Error -> Error
                         end
                 end).

published(Conn, Handler, State) ->
    case reply(sockpool:recv(Conn, packet, infinity)) of
        {ok, {push, [<<"subscribe">>, Channel, _Count]}} -> handled(Conn, Handler, {subscribed, Channel}, State);
        {ok, {push, [<<"message">>, Channel, Text]}} -> handled(Conn, Handler, {message, Channel, Text}, State);
        {error, _} = Error -> Error
    end.

handled(Conn, Handler, Event, State) ->
    case Handler(Event, State) of
        {more, Next} -> published(Conn, Handler, Next);
        {stop, Last} -> unsubscribed(Conn, sockpool:send(Conn, encode(["UNSUBSCRIBE"])), Last)
    end.

%% What was published in between is still before it. Without this it would be the next one's reply.
unsubscribed(Conn, ok, Last) ->
    IsLast = fun(Message) -> is_unsubscribed(decode(Message)) end,
    case sockpool:recv_until(Conn, IsLast, ?TIMEOUT_MS) of
        {ok, _} -> {ok, Last};
        {error, _} = Error -> Error
    end;
unsubscribed(_Conn, {error, _} = Error, _Last) ->
    Error.

is_unsubscribed({push, [<<"unsubscribe">>, _Channel, 0]}) -> true;
is_unsubscribed(_Other) -> false.

leased(Pool, Fun) ->
    case sockpool:execute(Pool, Fun) of
        {ok, Result} -> Result;
        {error, _} = Error -> Error
    end.

%%% With a connection that one has already: in a transaction, in `init'.

-spec ask(sockpool:conn(), command()) -> result().
ask(Conn, Command) -> ask(Conn, Command, ?TIMEOUT_MS).

-spec ask(sockpool:conn(), command(), timeout()) -> result().
ask(Conn, Command, Timeout) ->
    case sockpool:send(Conn, encode(Command), Timeout) of
        ok -> reply(sockpool:recv(Conn, packet, Timeout));
        {error, _} = Error -> Error
    end.

-spec ask_all(sockpool:conn(), [command()], timeout()) -> {ok, [value()]} | {error, sockpool:reason()}.
ask_all(Conn, Commands, Timeout) ->
    case sockpool:send(Conn, [encode(Command) || Command <- Commands], Timeout) of
        ok -> replies(Conn, length(Commands), Timeout, []);
        {error, _} = Error -> Error
    end.

replies(_Conn, 0, _Timeout, Before) ->
    {ok, lists:reverse(Before)};
replies(Conn, Left, Timeout, Before) ->
    case sockpool:recv(Conn, packet, Timeout) of
        {ok, Message} -> replies(Conn, Left - 1, Timeout, [decode(Message) | Before]);
        {error, _} = Error -> Error
    end.

reply({ok, Message}) ->
    case decode(Message) of
        {error, _} = Error -> Error;
        Value -> {ok, Value}
    end;
reply({error, _} = Error) ->
    Error.

%%% RESP3.

-spec encode(command()) -> iodata().
encode(Command) -> [header($*, length(Command)) | [bulk(Part) || Part <- Command]].

bulk(Part) when is_atom(Part) -> bulk(atom_to_binary(Part));
bulk(Part) when is_integer(Part) -> bulk(integer_to_binary(Part));
bulk(Part) when is_float(Part) -> bulk(float_to_binary(Part, [short]));
bulk(Part) -> [header($$, iolist_size(Part)), Part, "\r\n"].

header(Kind, Number) -> [Kind, integer_to_binary(Number), "\r\n"].

%% A message of the framing `resp' is one value.
-spec decode(binary()) -> value().
decode(Message) ->
    {Value, <<>>} = value(Message),
    Value.

value(<<Kind, Rest/binary>>) ->
    [Line, After] = binary:split(Rest, <<"\r\n">>),
    value(Kind, Line, After).

value($+, Text, Rest) -> {Text, Rest};
value($-, Text, Rest) -> {{error, Text}, Rest};
value($:, Digits, Rest) -> {binary_to_integer(Digits), Rest};
value($(, Digits, Rest) -> {binary_to_integer(Digits), Rest};
value($,, Text, Rest) -> {double(Text), Rest};
value($#, <<"t">>, Rest) -> {true, Rest};
value($#, <<"f">>, Rest) -> {false, Rest};
value($_, <<>>, Rest) -> {null, Rest};
value(_Kind, <<"-1">>, Rest) -> {null, Rest};
value(Kind, Digits, Rest) -> sized(Kind, binary_to_integer(Digits), Rest).

%% Lengths that are not said at first ($? and *?) are in the protocol, but no version of Redis sends them.
sized($$, Length, Rest) -> text(Length, Rest);
sized($=, Length, Rest) -> {<<_Format:3/binary, $:, Text/binary>>, After} = text(Length, Rest), {Text, After};
sized($!, Length, Rest) -> {Text, After} = text(Length, Rest), {{error, Text}, After};
sized($*, Count, Rest) -> values(Count, Rest, []);
sized($~, Count, Rest) -> values(Count, Rest, []);
sized($>, Count, Rest) -> {Values, After} = values(Count, Rest, []), {{push, Values}, After};
sized($%, Count, Rest) -> {Values, After} = values(2 * Count, Rest, []), {pairs(Values, #{}), After};
%% What is said about the value that follows.
sized($|, Count, Rest) -> {_Values, After} = values(2 * Count, Rest, []), value(After).

text(Length, Rest) ->
    <<Text:Length/binary, "\r\n", After/binary>> = Rest,
    {Text, After}.

values(0, Rest, Before) ->
    {lists:reverse(Before), Rest};
values(Left, Rest, Before) ->
    {Value, After} = value(Rest),
    values(Left - 1, After, [Value | Before]).

pairs([Key, Value | Rest], Map) -> pairs(Rest, Map#{Key => Value});
pairs([], Map) -> Map.

%% As C prints it: `10' and `1e+20' are no floats to Erlang.
double(<<"inf">>) -> infinity;
double(<<"-inf">>) -> '-infinity';
double(<<"nan">>) -> nan;
double(<<"-nan">>) -> nan;
double(Text) ->
    [Number | Exponent] = binary:split(Text, [<<"e">>, <<"E">>]),
    binary_to_float(iolist_to_binary([fraction(Number) | [[$e, Digits] || Digits <- Exponent]])).

fraction(Number) ->
    case binary:match(Number, <<".">>) of
        nomatch -> [Number, ".0"];
        _ -> Number
    end.
