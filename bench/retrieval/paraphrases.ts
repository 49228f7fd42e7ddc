/**
 * Questions, and answers in other words: no question has a word in common with its answer, apart from function words.
 * Whoever finds an answer has understood the question.
 */
export const PARAPHRASES: readonly (readonly [question: string, answer: string])[] = [
  [
    "How do I get my money back?",
    "Refunds are issued within 14 days if you return the unused item with its receipt.",
  ],
  ["Where is my parcel?", "Track your shipment by entering the order number on the delivery status page."],
  [
    "I forgot my password",
    "To reset your login credentials, click the link we send to your registered email address.",
  ],
  ["Can I bring my dog?", "Pets are welcome in all ground-floor rooms for a small additional fee."],
  ["How much does it cost?", "The price is 20 euros per month, taxes included, payable by invoice."],
  ["When are you open?", "Our business hours are Monday to Friday, nine to five, closed on public holidays."],
  [
    "Is there wifi?",
    "Guests may use the wireless internet connection throughout the building free of charge.",
  ],
  [
    "My screen stays black",
    "If the display does not light up, check the video cable and the power supply of the monitor.",
  ],
  [
    "The car won't start",
    "When the engine fails to turn over, the battery is often flat and needs a jump from another vehicle.",
  ],
  [
    "What should I do in case of fire?",
    "Leave the burning building by the nearest emergency exit and call the brigade from outside.",
  ],
  [
    "How long can I stay home with a newborn?",
    "Parental leave lasts up to twelve months after the birth of your baby.",
  ],
  [
    "I caught a cold and cannot work",
    "Employees who are ill inform their manager and send a doctor's certificate by the third day of sickness.",
  ],
  ["How many vacation days do I have?", "Staff receive thirty days of paid annual leave each calendar year."],
  [
    "Who approves business trips?",
    "Travel on behalf of the company must be authorised by your line manager beforehand.",
  ],
  [
    "What happens to my salary if I quit?",
    "Upon resignation, outstanding wages are paid at the end of the notice period.",
  ],
  [
    "How do I make the app faster?",
    "Performance improves when you clear the cache and disable plug-ins that you do not need.",
  ],
  [
    "The program crashed",
    "If the software terminates unexpectedly, send us the log file that was written at that moment.",
  ],
  [
    "How can I stop those newsletters?",
    "Unsubscribe from marketing emails with the link at the bottom of each message.",
  ],
  [
    "Is my data safe?",
    "All personal information is encrypted at rest and stored in secure facilities within Europe.",
  ],
  ["How do I erase my account?", "You may delete your user profile permanently under Settings, Privacy."],
  [
    "Somebody stole my card",
    "Report a lost or missing credit instrument immediately, so that the bank can block it.",
  ],
  ["Do you ship abroad?", "International delivery is available to over forty countries."],
  ["Can children come along?", "Kids under twelve enter free when accompanied by an adult."],
  ["The soup is too salty", "To rescue an oversalted broth, add a peeled potato or dilute it with water."],
  [
    "How do I keep bread fresh?",
    "Loaves stay soft longest in a paper bag inside a closed box, never in the refrigerator.",
  ],
  ["What helps against mosquitoes?", "Insect repellents with DEET and a net over the bed prevent bites."],
  [
    "My plant's leaves turn yellow",
    "Discoloured foliage usually points to overwatering or a lack of nitrogen in the soil.",
  ],
  [
    "How do I get rid of red wine stains?",
    "Treat spilled Merlot on fabric at once with salt and sparkling water, then wash cold.",
  ],
  [
    "What is the largest animal?",
    "The blue whale reaches thirty metres in length and weighs up to two hundred tonnes.",
  ],
  ["Who invented the light bulb?", "Thomas Edison patented a practical incandescent lamp in 1879."],
  [
    "Why is the sky blue?",
    "Air molecules scatter short wavelengths of sunlight more strongly than long ones.",
  ],
  [
    "How tall is Mount Everest?",
    "The summit of the world's highest peak stands 8,849 metres above sea level.",
  ],
  ["How do I lower my blood pressure?", "Less sodium, regular exercise and weight loss reduce hypertension."],
  [
    "I cannot fall asleep",
    "People with insomnia should avoid caffeine in the evening and keep the bedroom dark and cool.",
  ],
  [
    "What is a good exercise for back pain?",
    "Gentle stretching and strengthening of the core relieve discomfort in the lumbar spine.",
  ],
  [
    "How do I buy a house with little savings?",
    "First-time purchasers with a small deposit can apply for a subsidised mortgage.",
  ],
  [
    "Can I park there?",
    "A garage for vehicles of visitors is located beneath the museum; the first hour is gratis.",
  ],
  [
    "The meeting was moved",
    "The conference has been rescheduled to Thursday because the speaker is unavailable.",
  ],
  [
    "Where do I throw away old batteries?",
    "Used power cells are hazardous waste: take them to the recycling point in the supermarket.",
  ],
  ["How can I reach a human?", "To talk to one of our support agents, call the hotline or use live chat."],
  [
    "My order arrived broken",
    "If goods were damaged in transit, send us photographs and we will dispatch a replacement.",
  ],
  [
    "May I smoke on the balcony?",
    "Tobacco and electronic cigarettes are prohibited everywhere on the premises, terraces included.",
  ],
  ["What languages does the guide speak?", "Tours are offered in English, French and Mandarin."],
  [
    "How do I become a member?",
    "Join the club by filling in the registration form and paying the yearly subscription.",
  ],
  [
    "Is the food suitable for vegetarians?",
    "Meals without meat or fish are marked with a green leaf on the menu.",
  ],
  [
    "The printer is jammed",
    "Remove the sheet of paper that is stuck by opening the rear cover and pulling gently.",
  ],
  ["How do I copy a file?", "Duplicate a document by dragging its icon while holding the Alt key."],
  [
    "My phone was dropped into water",
    "Switch a wet mobile device off at once, and let it dry for two days before charging.",
  ],
];
