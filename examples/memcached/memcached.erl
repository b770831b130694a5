%%% A client of memcached (1.6 or later, meta commands) on a pool of sockpool. docs/protocols.md says what is to be learned from it.
%%%
%%%     ok = sockpool:start_pool(cache, memcached:options(#{host => "127.0.0.1"})).
%%%     ok = memcached:set(cache, <<"colour">>, <<"blue">>, #{ttl => 60}).
%%%     {ok, <<"blue">>} = memcached:get(cache, <<"colour">>).
%%%
%%% A key is any binary of up to 186 bytes. An error of the server is `{error, Text}' with a binary, one of the pool is
%%% `{error, Reason}' without.
-module(memcached).

-export([options/1, hello/1]).
-export([set/3, set/4, delete/2, get/2, get_many/2, incr/3, update/3, stats/1]).

-type key() :: binary().
-type error() :: {error, binary() | sockpool:reason()}.

-define(TIMEOUT_MS, 5000).
%% 250 in base64.
-define(KEY_MAX, 186).

%%% The pool.

%% Messages are lines; a value that follows one is taken by its length.
-spec options(map()) -> sockpool:options().
options(Opts) ->
    maps:merge(#{port => 11211}, Opts#{packet => {delimiter, <<"\r\n">>}, init => {?MODULE, hello, []}}).

%% Something else may listen there, or one that is too old.
-spec hello(sockpool:conn()) -> ok | error().
hello(Conn) ->
    case asked(Conn, "mn\r\n") of
        {ok, "MN", _} -> ok;
        {ok, _, _} -> {error, no_memcached};
        {error, _} = Error -> Error
    end.

%%% The reply is a line: a request.

-spec set(sockpool:pool(), key(), iodata()) -> ok | error().
set(Pool, Key, Value) -> set(Pool, Key, Value, #{}).

%% `ttl': seconds.
-spec set(sockpool:pool(), key(), iodata(), #{ttl => pos_integer()}) -> ok | error().
set(Pool, Key, Value, Opts) ->
    case requested(Pool, storing(Key, Value, [[" T", integer_to_list(Seconds)] || #{ttl := Seconds} <- [Opts]])) of
        {ok, "HD", _} -> ok;
        {ok, "NS", _} -> {error, not_stored};
        {error, _} = Error -> Error
    end.

%% Whether it was there.
-spec delete(sockpool:pool(), key()) -> {ok, boolean()} | error().
delete(Pool, Key) ->
    case requested(Pool, ["md ", coded(Key), " b\r\n"]) of
        {ok, "HD", _} -> {ok, true};
        {ok, "NF", _} -> {ok, false};
        {error, _} = Error -> Error
    end.

%%% A value may follow the line, or there are many lines: a lease.

-spec get(sockpool:pool(), key()) -> {ok, binary()} | not_found | error().
get(Pool, Key) ->
    leased(Pool, fun(Conn) ->
                         case asked(Conn, ["mg ", coded(Key), " b v\r\n"]) of
                             {ok, "VA", [Length | _]} -> value(Conn, Length);
                             {ok, "EN", _} -> not_found;
                             {error, _} = Error -> Error
                         end
                 end).

%% All in one turn. Those that are not there are left out: the server says nothing of them (q), and `mn' has the last word. What it
%% says has the number (O) of the request: the key itself (k) it gives as it likes, base64 or not.
-spec get_many(sockpool:pool(), [key()]) -> {ok, #{key() => binary()}} | error().
get_many(Pool, Keys) ->
    Numbered = maps:from_list([{integer_to_list(N), Key} || {N, Key} <- lists:zip(lists:seq(1, length(Keys)), Keys)]),
    Gets = maps:fold(fun(N, Key, Before) -> [["mg ", coded(Key), " b v q O", N, "\r\n"] | Before] end, ["mn\r\n"], Numbered),
    leased(Pool, fun(Conn) ->
                         case sockpool:send(Conn, Gets, ?TIMEOUT_MS) of
                             ok -> values(Conn, Numbered, #{});
                             {error, _} = Error -> Error
                         end
                 end).

values(Conn, Numbered, Found) ->
    case line(sockpool:recv(Conn, packet, ?TIMEOUT_MS)) of
        {ok, "VA", [Length | Flags]} ->
            [N] = [Number || [$O | Number] <- Flags],
            case value(Conn, Length) of
                {ok, Value} -> values(Conn, Numbered, Found#{map_get(N, Numbered) => Value});
                {error, _} = Error -> Error
            end;
        {ok, "MN", _} -> {ok, Found};
        {error, _} = Error -> Error
    end.

%% A number, which begins with 0 where there is none.
-spec incr(sockpool:pool(), key(), pos_integer()) -> {ok, non_neg_integer()} | error().
incr(Pool, Key, Delta) ->
    Digits = integer_to_list(Delta),
    leased(Pool, fun(Conn) ->
                         case asked(Conn, ["ma ", coded(Key), " b v N0 J", Digits, " D", Digits, "\r\n"]) of
                             {ok, "VA", [Length | _]} -> number(value(Conn, Length));
                             {error, _} = Error -> Error
                         end
                 end).

number({ok, Digits}) -> {ok, binary_to_integer(Digits)};
number({error, _} = Error) -> Error.

%% The fun makes the new value of the old one (or of `undefined'), and is called again where somebody else was faster.
-spec update(sockpool:pool(), key(), fun((binary() | undefined) -> iodata())) -> ok | error().
update(Pool, Key, Fun) ->
    case leased(Pool, fun(Conn) -> updated(Conn, Key, Fun) end) of
        {ok, "HD", _} -> ok;
        {ok, Changed, _} when Changed =:= "EX"; Changed =:= "NF"; Changed =:= "NS" -> update(Pool, Key, Fun);
        {error, _} = Error -> Error
    end.

updated(Conn, Key, Fun) ->
    case asked(Conn, ["mg ", coded(Key), " b v c\r\n"]) of
        {ok, "VA", [Length | Flags]} ->
            [Version] = [Digits || [$c | Digits] <- Flags],
            case value(Conn, Length) of
                {ok, Value} -> asked(Conn, storing(Key, Fun(Value), [" C", Version]));
                {error, _} = Error -> Error
            end;
        {ok, "EN", _} -> asked(Conn, storing(Key, Fun(undefined), " ME"));
        {error, _} = Error -> Error
    end.

-spec stats(sockpool:pool()) -> {ok, #{binary() => binary()}} | error().
stats(Pool) ->
    leased(Pool, fun(Conn) ->
                         case sockpool:send(Conn, "stats\r\n", ?TIMEOUT_MS) of
                             ok -> counters(sockpool:recv_until(Conn, fun(Line) -> Line =:= <<"END\r\n">> end, ?TIMEOUT_MS));
                             {error, _} = Error -> Error
                         end
                 end).

counters({ok, Lines}) ->
    {ok, maps:from_list([{Name, Value} || <<"STAT ", Line/binary>> <- Lines, [Name, Value] <- [words(Line)]])};
counters({error, _} = Error) ->
    Error.

%%% Bytes.

%% A space or the end of a line in a key would be another command: so keys go as base64, which the flag b says.
coded(Key) when byte_size(Key) =< ?KEY_MAX -> base64:encode(Key).

storing(Key, Value, Flags) ->
    ["ms ", coded(Key), $ , integer_to_list(iolist_size(Value)), " b", Flags, "\r\n", Value, "\r\n"].

requested(Pool, Data) -> line(sockpool:request(Pool, Data, packet, ?TIMEOUT_MS)).

asked(Conn, Data) ->
    case sockpool:send(Conn, Data, ?TIMEOUT_MS) of
        ok -> line(sockpool:recv(Conn, packet, ?TIMEOUT_MS));
        {error, _} = Error -> Error
    end.

%% {ok, Code, Words}, or what went wrong in there.
line({ok, Line}) ->
    case words(Line) of
        [<<"ERROR">>] -> {error, <<"ERROR">>};
        [<<"CLIENT_ERROR">> | _] -> {error, string:trim(Line)};
        [<<"SERVER_ERROR">> | _] -> {error, string:trim(Line)};
        [Code | Words] -> {ok, binary_to_list(Code), [binary_to_list(Word) || Word <- Words]}
    end;
line({error, _} = Error) ->
    Error.

words(Line) -> binary:split(string:trim(Line), <<" ">>, [global, trim_all]).

%% With the end of line behind it.
value(Conn, Length) ->
    Bytes = list_to_integer(Length),
    case sockpool:recv(Conn, Bytes + 2, ?TIMEOUT_MS) of
        {ok, <<Value:Bytes/binary, "\r\n">>} -> {ok, Value};
        {error, _} = Error -> Error
    end.

leased(Pool, Fun) ->
    case sockpool:execute(Pool, Fun) of
        {ok, Result} -> Result;
        {error, _} = Error -> Error
    end.
