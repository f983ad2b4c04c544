"""The words that text prompts are made of. Not here: drawing them (content)."""

_LIST = """
about above across after again along almost always among another answer apple around arrive
autumn balance basket because before begin behind better between bicycle border bottle branch
bread bridge bright broken brother build butter camera candle carry castle center chair change
cheese circle city clean climb clock cloud coast coffee color common copper corner cotton count
country courage cousin cover crowd daily dance danger decide deep depend desert detail dinner
distance doctor dozen dream drive during early earth easy effort either empty engine enough
evening every example explain fabric factory family farmer father feather figure final finger
finish flavor floor flower follow forest forget forward fresh friend front future garden gather
gentle glass golden grain grass green ground group grow guess habit hammer handle happen harbor
harvest heavy height hidden history honest hotel hour hundred island jacket journey kitchen
ladder language large later laugh leather lesson letter level light listen little local machine
manner market matter meadow measure memory method middle mirror modern moment morning mother
mountain music narrow nature nearly needle neighbor never night north notice number object
ocean often open orange order other outside paper parent people perhaps picture planet pocket
point present pretty problem promise public purple question quick quiet rather reason record
remember repeat result return river rocket round sailor salt sample school season second secret
sentence seven shadow shape share shelter short signal silver simple sister slowly smooth
something south spring square station steady story street strong student subject sudden summer
supper surface table teacher thousand through thunder ticket together tomorrow toward travel
under until upper useful valley velvet village visit voice wagon water weather welcome whisper
window winter within without wonder wooden yellow yesterday young
"""
WORDS = tuple(_LIST.split())
